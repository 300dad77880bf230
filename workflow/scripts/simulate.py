"""Draw some data sets of a scenario and write them as Parquet."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study.design.study import load_checked
from rmm.study.manage.kept_data import write_data
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    wildcards = snakemake.wildcards
    file, size = snakemake.config["study"], snakemake.config["size"]
    allowed = snakemake.config.get("allow_code", False)
    study = load_checked(file, wildcards.scenario, size=size, allow_code=allowed)
    first, last = int(wildcards.first), int(wildcards.last)
    write_data(study, wildcards.scenario, first, last, Path(snakemake.output[0]))
