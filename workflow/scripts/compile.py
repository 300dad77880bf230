"""Compile the programs of one method."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study.design.study import load_checked
from rmm.study.run.compile_programs import compile_method
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    file, size = snakemake.config["study"], snakemake.config["size"]
    study = load_checked(file, size=size, allow_code=snakemake.config.get("allow_code", False))
    compile_method(study, snakemake.wildcards.method, Path(snakemake.output[0]))
