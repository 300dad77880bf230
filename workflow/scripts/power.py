"""Fit the curves of a power study."""

from pathlib import Path

from rmm.study.design.study import load_checked
from rmm.study.evaluate.power import write_power
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    write_power(study, Path(snakemake.input[0]), Path(snakemake.output[0]))
