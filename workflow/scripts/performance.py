"""Score the collected estimates."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study import write_performance
from rmm.study.design.study import load_checked
from rmm.study.manage.steps import end_job, end_step
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    out = Path(snakemake.output[0])
    write_performance(study, Path(snakemake.input[0]), out)
    end_step("performance", out.parent, snakemake.output.record)
    end_job(snakemake.input)
