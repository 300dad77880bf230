# Data sets as Parquet, for other programs: with `keep: data`, and by `snakemake simulate`. Files that
# exist are in no rule: they are kept, whatever the number of replications was.


localrules:
    simulate,


DATA = []
if workflow.is_main_process and (ONLY_DATA or STUDY.config.get("keep")):
    DATA = [f"{FOLDER}/{job.path}" for job in checked(missing_data, STUDY, FOLDER)]


rule simulate:
    input:
        DATA,
        f"{FOLDER}/scenarios.parquet",


rule simulate_batch:
    output:
        f"{FOLDER}/data/{{scenario}}/{{first}}-{{last}}.parquet",
        f"{FOLDER}/data/{{scenario}}/{{first}}-{{last}}.truth.parquet",
    log:
        f"{FOLDER}/logs/simulate/{{scenario}}/{{first}}-{{last}}.log",
    priority: 50
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        seed=STUDY.seed,
    message:
        "Data of {wildcards.scenario}, replications {wildcards.first}-{wildcards.last}"
    script:
        "../scripts/simulate.py"
