"""Fit the curves of a power study."""

from pathlib import Path

from rmm.study import load_study
from rmm.study.joblog import logged
from rmm.study.power import write_power

with logged(snakemake.log[0]):
    study = load_study(snakemake.config["study"], size=snakemake.config["size"])
    write_power(study, Path(snakemake.input[0]), Path(snakemake.output[0]))
