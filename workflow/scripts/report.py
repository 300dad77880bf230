"""Write the report: one page, its figures and its tables."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study.design.study import load_checked
from rmm.study.manage.steps import end_job, end_step
from rmm.study.report import write_report
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    folder = Path(snakemake.input.estimates).parent
    write_report(study, folder)
    end_step("report", folder, snakemake.output.record)
    end_job(snakemake.input)
