"""Compile the Stan programs of one method."""

from pathlib import Path

from rmm.study import load_study
from rmm.study.joblog import logged
from rmm.study.programs import compile_method

with logged(snakemake.log[0]):
    study = load_study(snakemake.config["study"], size=snakemake.config["size"])
    compile_method(study, snakemake.wildcards.method, Path(snakemake.output[0]))
