"""Score the collected estimates."""

from pathlib import Path

from rmm.study import write_performance
from rmm.study.design.study import load_checked
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    write_performance(study, Path(snakemake.input[0]), Path(snakemake.output[0]))
