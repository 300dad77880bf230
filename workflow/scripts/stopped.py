"""Keep the decision that ends a scenario."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study.files.parquet import write_text
from rmm.study.manage.steps import end_job
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    write_text(Path(snakemake.input[0]).read_text(encoding="utf-8"), Path(snakemake.output[0]))
    end_job(snakemake.input)
