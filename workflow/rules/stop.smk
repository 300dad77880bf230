# A study with `stopping` gets its batches stage by stage: after each stage of a scenario a
# checkpoint decides whether it has enough, and Snakemake adds what is missing. Scenarios do not
# wait for each other. Without `stopping` nothing here is used and all jobs are known at the start.
from rmm.study.batches import jobs_of


localrules:
    decide,
    stopped,


# What a decision depends on besides the estimates.
RULE = addresses.digest(
    [STUDY.config.get("stopping"), STUDY.config["estimands"], STUDY.config.get("baseline")]
)


def stage_batches(wildcards):
    """The batches of a scenario up to a stage, by all methods."""
    scenario = STUDY.scenario(wildcards.scenario)
    found = jobs_of(STUDY, scenario, int(wildcards.stage), Path(FOLDER))
    return [f"{FOLDER}/{job.path}" for job in found]


def last_decision(wildcards):
    """The decision that ends a scenario; asks for one after the other until it is known."""
    maximum = STUDY.scenario(wildcards.scenario).replications
    for stage in STUDY.stopping.stages(maximum):
        found = checkpoints.decide.get(scenario=wildcards.scenario, stage=stage).output[0]
        if json.loads(Path(found).read_text())["decided"]:
            break
    return found


checkpoint decide:
    input:
        stage_batches,
    output:
        f"{FOLDER}/stopping/{{scenario}}/{{stage}}.json",
    log:
        f"{FOLDER}/logs/stopping/{{scenario}}/{{stage}}.log",
    priority: 10
    conda:
        "../envs/rmm.yaml"
    threads: 1
    params:
        rule=RULE,
    message:
        "{wildcards.scenario}: enough at {wildcards.stage} replications?"
    script:
        "../scripts/decide.py"


rule stopped:
    input:
        last_decision,
    output:
        f"{FOLDER}/stopping/{{scenario}}.json",
    log:
        f"{FOLDER}/logs/stopping/{{scenario}}.log",
    conda:
        "../envs/rmm.yaml"
    threads: 1
    message:
        "{wildcards.scenario} has enough replications"
    shell:
        "cp {input:q} {output:q} 2> {log:q}"
