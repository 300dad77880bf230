"""Simulate one batch of replications and fit one or several methods to it."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

import gc
from functools import partial
from pathlib import Path

from rmm.study.design.study import load_checked
from rmm.study.manage.steps import end_job
from rmm.study.run.batch import run_batches
from rmm.study.run.compile_programs import use_compiled
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    wildcards = snakemake.wildcards
    methods = list(snakemake.params.get("methods", [wildcards.get("method")]))
    first, last = int(wildcards.first), int(wildcards.last)
    scenario = wildcards.scenario
    file, size = snakemake.config["study"], snakemake.config["size"]
    allowed = snakemake.config.get("allow_code", False)
    study = load_checked(file, scenario, methods, size=size, allow_code=allowed)
    paths = dict(zip(methods, map(Path, snakemake.output), strict=True))
    say = partial(print, flush=True)  # into the log
    for marker in snakemake.input:  # of the programs that were compiled; none for most engines
        if said := use_compiled(study, scenario, methods[0], Path(marker)):
            say(said)
    run_batches(study, scenario, paths, first, last, say, until_collected=True)
    end_job(snakemake.input)

# What is left to collect goes with the process: a fifth of a second per job on this way out.
gc.freeze()
