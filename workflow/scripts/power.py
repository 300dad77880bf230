"""Fit the curves of a power study."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study.design.study import load_checked
from rmm.study.evaluate.power import write_power
from rmm.study.manage.steps import end_job, end_step
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    out = Path(snakemake.output[0])
    write_power(study, Path(snakemake.input[0]), out)
    end_step("power", out.parent, snakemake.output.record)
    end_job(snakemake.input)
