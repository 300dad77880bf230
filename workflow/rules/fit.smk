# Programs are compiled before the first fit that needs them, once, and not by all fits at the
# same moment. The binary is in the user's cache; the marker says which.
rule compile:
    output:
        f"{FOLDER}/programs/{{method}}.json",
    log:
        f"{FOLDER}/logs/compile/{{method}}.log",
    priority: 100
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        method_id=lambda wildcards: METHODS[wildcards.method].id,
    message:
        "Compiling the programs of {wildcards.method}"
    script:
        "../scripts/compile.py"


# Simulates and fits a batch of replications in one process; nothing but the estimates is kept,
# as the data of a replication follow from its address. A fit depends on the content of its
# scenario (the id in the path) and of its method (params), and on no file's time: a change
# elsewhere in the study file, or a recompiled program, repeats nothing.
rule fit:
    input:
        ancient(compiled),
    output:
        f"{FOLDER}/estimates/{{scenario}}/{{method}}/{{first}}-{{last}}.parquet",
    log:
        f"{FOLDER}/logs/fit/{{scenario}}/{{method}}/{{first}}-{{last}}.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        method_id=lambda wildcards: METHODS[wildcards.method].id,
        seed=STUDY.seed,
    message:
        "{wildcards.method}, {wildcards.scenario}, replications {wildcards.first}-{wildcards.last}"
    script:
        "../scripts/fit.py"
