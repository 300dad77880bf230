# A study with `stopping` gets its batches stage by stage: after each stage of a scenario a
# checkpoint decides whether it has enough, and Snakemake adds what is missing. Scenarios do not
# wait for each other. Without `stopping` nothing here is used and all jobs are known at the start.


localrules:
    decide,
    stopped,


checkpoint decide:
    input:
        stage_batches,
    output:
        f"{DECISIONS}/{{scenario}}/{{stage}}.json",
    log:
        f"{FOLDER}/logs/stopping/{{scenario}}/{{stage}}.log",
    priority: 10
    conda:
        "../envs/rmm.yaml"
    threads: 1
    message:
        "{wildcards.scenario}: enough at {wildcards.stage} replications?"
    script:
        "../scripts/decide.py"


rule stopped:
    input:
        last_decision,
    output:
        f"{DECISIONS}/{{scenario}}.json",
    log:
        f"{FOLDER}/logs/stopping/{{scenario}}.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    message:
        "{wildcards.scenario} has enough replications"
    script:
        "../scripts/stopped.py"
