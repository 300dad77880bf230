"""Compile the programs of one method."""

from pathlib import Path

from rmm.study.design.study import load_checked
from rmm.study.run.compile_programs import compile_method
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    compile_method(study, snakemake.wildcards.method, Path(snakemake.output[0]))
