"""Simulate and fit one batch of replications; say how far the study is."""

import time
from contextlib import suppress
from pathlib import Path

from rmm.study import load_study, progress, run_batch
from rmm.study.joblog import logged

with logged(snakemake.log[0]) as say:
    started = time.monotonic()
    method = snakemake.wildcards.method
    first, last = int(snakemake.wildcards.first), int(snakemake.wildcards.last)
    study = load_study(snakemake.config["study"], size=snakemake.config["size"])
    path = Path(snakemake.output[0])
    spent = run_batch(
        study,
        snakemake.wildcards.scenario,
        method,
        first,
        last,
        path,
        say=say,
        until_collected=True,
    )
    # The estimates are there: a line about them that cannot be written must not fail the job.
    with suppress(OSError):
        seconds = max(spent, time.monotonic() - started)
        say(progress.note(path.parents[3], method, last - first + 1, seconds))
