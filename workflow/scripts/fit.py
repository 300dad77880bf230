"""Simulate and fit one batch of replications; say how far the study is."""

import time
from pathlib import Path

from rmm.study import load_study, progress, run_batch
from rmm.study.joblog import logged
from rmm.study.programs import use_compiled

with logged(snakemake.log[0]) as say:
    started = time.monotonic()
    method = snakemake.wildcards.method
    first, last = int(snakemake.wildcards.first), int(snakemake.wildcards.last)
    study = load_study(snakemake.config["study"], size=snakemake.config["size"])
    path = Path(snakemake.output[0])
    for marker in snakemake.input:  # of the programs that were compiled; none but for Stan
        print(use_compiled(study, snakemake.wildcards.scenario, method, Path(marker)))
    run_batch(study, snakemake.wildcards.scenario, method, first, last, path)
    seconds = time.monotonic() - started
    say(progress.note(path.parents[3], method, last - first + 1, seconds))
