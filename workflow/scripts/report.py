"""Write the report: one page, its figures and its tables."""

from pathlib import Path

from rmm.study.report import write_report
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    write_report(Path(snakemake.input.config).parent)
