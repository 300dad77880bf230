"""Simulate and fit one batch of replications."""

import gc
from functools import partial
from pathlib import Path

from rmm.study import run_batch
from rmm.study.design.study import load_checked
from rmm.study.run.compile_programs import use_compiled
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    method = snakemake.wildcards.method
    first, last = int(snakemake.wildcards.first), int(snakemake.wildcards.last)
    scenario = snakemake.wildcards.scenario
    file, size = snakemake.config["study"], snakemake.config["size"]
    study = load_checked(file, scenario, method, size=size)
    path = Path(snakemake.output[0])
    say = partial(print, flush=True)  # into the log
    for marker in snakemake.input:  # of the programs that were compiled; none for most engines
        if said := use_compiled(study, scenario, method, Path(marker)):
            say(said)
    run_batch(study, scenario, method, first, last, path, say, until_collected=True)

# What is left to collect goes with the process: a fifth of a second per job on this way out.
gc.freeze()
