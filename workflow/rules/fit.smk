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
        method_id=lambda wildcards: "+".join(m.id for m in STUDY.versions_of(wildcards.method)),
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
        compiled,
    output:
        f"{FOLDER}/estimates/{{scenario}}/{{method}}/{{first}}-{{last}}.parquet",
    log:
        f"{FOLDER}/logs/fit/{{scenario}}/{{method}}/{{first}}-{{last}}.log",
    wildcard_constraints:
        scenario=RULES_OF_FITS[()],
    priority: 3
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        method_id=lambda wildcards: method_of(wildcards).id,
        seed=STUDY.seed,
    message:
        "{wildcards.method}, {wildcards.scenario}, replications {wildcards.first}-{wildcards.last}"
    script:
        "../scripts/fit.py"


# The same for methods with short fits: one process simulates each data set once and applies all of
# them to it. Each method has its own file.
for METHODS_HERE, SCENARIOS_HERE in RULES_OF_FITS.items():
    if not METHODS_HERE:
        continue

    rule:
        name:
            fit_rule(METHODS_HERE)
        output:
            [
                f"{FOLDER}/estimates/{{scenario}}/{name}/{{first}}-{{last}}.parquet"
                for name in METHODS_HERE
            ],
        log:
            f"{FOLDER}/logs/fit/{{scenario}}/{{first}}-{{last}}.log",
        wildcard_constraints:
            scenario=SCENARIOS_HERE,
        priority: fit_priority(METHODS_HERE)
        conda:
            "../envs/rmm.yaml"
        threads: 1
        params:
            methods=METHODS_HERE,
            ids=lambda wildcards, names=METHODS_HERE: [method_of(wildcards, n).id for n in names],
            seed=STUDY.seed,
        message:
            (
                f"{', '.join(METHODS_HERE)}, {{wildcards.scenario}}, "
                "replications {wildcards.first}-{wildcards.last}"
            )
        script:
            "../scripts/fit.py"
