"""Write the report: one page, its figures and its tables."""

from pathlib import Path

from rmm.study.joblog import logged
from rmm.study.report import write_report

with logged(snakemake.log[0]):
    write_report(Path(snakemake.input.config).parent)
