# All batches in one table. `content` makes it repeat when the study asks for other estimands.
rule collect:
    input:
        collected,
    output:
        f"{FOLDER}/estimates.parquet",
        *([f"{FOLDER}/stopping.parquet"] if STUDY.stopping else []),
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
        f"{FOLDER}/estimates.parquet",
    output:
        f"{FOLDER}/performance.parquet",
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
