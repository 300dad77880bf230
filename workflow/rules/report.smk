rule report:
    input:
        config=f"{FOLDER}/config.yaml",
        scenarios=f"{FOLDER}/scenarios.parquet",
        estimates=f"{FOLDER}/estimates.parquet",
        performance=f"{FOLDER}/performance.parquet",
    output:
        page=f"{FOLDER}/report/index.html",
        figures=directory(f"{FOLDER}/report/figures"),
        tables=directory(f"{FOLDER}/report/tables"),
    log:
        f"{FOLDER}/logs/report.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    message:
        "Writing {output.page}"
    script:
        "../scripts/report.py"
