# Curves and sizes of a power study (`power` in its file).
rule power:
    input:
        f"{FOLDER}/performance.parquet",
    output:
        f"{FOLDER}/power.parquet",
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
        config=f"{FOLDER}/config.yaml",
        scenarios=f"{FOLDER}/scenarios.parquet",
        estimates=f"{FOLDER}/estimates.parquet",
        performance=f"{FOLDER}/performance.parquet",
        power=[f"{FOLDER}/power.parquet"] if STUDY.power else [],
    output:
        page=f"{FOLDER}/report/index.html",
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
