# What is to be simulated, in full: the resolved study file and the table of scenarios.
localrules:
    all,
    design,


rule design:
    output:
        config=f"{FOLDER}/config.yaml",
        scenarios=f"{FOLDER}/scenarios.parquet",
        record=record("design"),
    log:
        f"{FOLDER}/logs/design.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        content=CONTENT,
    message:
        f"Study {STUDY.name}: {len(STUDY.scenarios)} scenarios, {len(METHODS)} methods"
    script:
        "../scripts/design.py"
