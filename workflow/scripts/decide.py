"""Decide whether a scenario has enough replications."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study.design.study import load_checked
from rmm.study.manage.decide import write_decision
from rmm.study.manage.steps import end_job
from rmm.study.run.log import logged

with logged(snakemake.log[0]) as say:
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    scenario, stage = snakemake.wildcards.scenario, int(snakemake.wildcards.stage)
    say(write_decision(study, scenario, stage, snakemake.input, Path(snakemake.output[0])))
    end_job(snakemake.input)
