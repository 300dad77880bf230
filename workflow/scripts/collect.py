"""Put all batches into one table, in an order that depends on their content only."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study import collect, plan
from rmm.study.design.study import load_checked
from rmm.study.manage.steps import end_job, end_step
from rmm.study.run.checkpoint import discard
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    out = Path(snakemake.output[0])
    parts = snakemake.input
    if study.stopping is not None:  # the inputs are decisions; the plan follows from them
        parts = [out.parent / job.path for job in plan(study, out.parent)]
    collect(study, parts, out)
    discard(out.parent)
    end_step("collect", out.parent, snakemake.output.record, parts)
    end_job(snakemake.input)
