"""Score the collected estimates."""

from pathlib import Path

from rmm.study import load_study, write_performance
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_study(snakemake.config["study"], size=snakemake.config["size"])
    write_performance(study, Path(snakemake.input[0]), Path(snakemake.output[0]))
