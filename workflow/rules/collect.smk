# All batches in one table.
rule collect:
    input:
        collected,
    output:
        f"{FOLDER}/estimates.parquet",
        *([f"{FOLDER}/stopping.parquet"] if STUDY.stopping else []),
        record=record("collect"),
    log:
        f"{FOLDER}/logs/collect.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        content=CONTENT,
    message:
        "Collecting the batches"
    script:
        "../scripts/collect.py"


rule performance:
    input:
        settled(f"{FOLDER}/estimates.parquet", record("performance")),
        settled(record("collect"), record("performance")),
    output:
        f"{FOLDER}/performance.parquet",
        record=record("performance"),
    log:
        f"{FOLDER}/logs/performance.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        content=CONTENT,
    message:
        "Scoring the estimates"
    script:
        "../scripts/performance.py"
