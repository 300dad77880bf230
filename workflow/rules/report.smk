# Curves and sizes of a power study (`power` in its file).
rule power:
    input:
        settled(f"{FOLDER}/performance.parquet", record("power")),
        settled(record("performance"), record("power")),
    output:
        f"{FOLDER}/power.parquet",
        record=record("power"),
    log:
        f"{FOLDER}/logs/power.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        content=CONTENT,
    message:
        "Fitting the curves of power"
    script:
        "../scripts/power.py"


rule report:
    input:
        config=settled(f"{FOLDER}/config.yaml", record("report")),
        scenarios=settled(f"{FOLDER}/scenarios.parquet", record("report")),
        estimates=settled(f"{FOLDER}/estimates.parquet", record("report")),
        performance=settled(f"{FOLDER}/performance.parquet", record("report")),
        power=settled([f"{FOLDER}/power.parquet"] if STUDY.power else [], record("report")),
        records=settled([record(step) for step in BEFORE_REPORT], record("report")),
    output:
        record=record("report"),
        page=f"{FOLDER}/report/index.html",
        numbers=f"{FOLDER}/report/numbers.html",
        headline=f"{FOLDER}/report/headline.txt",
        figures=directory(f"{FOLDER}/report/figures"),
        tables=directory(f"{FOLDER}/report/tables"),
    log:
        f"{FOLDER}/logs/report.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        content=CONTENT,
    message:
        "Writing {output.page}"
    script:
        "../scripts/report.py"
