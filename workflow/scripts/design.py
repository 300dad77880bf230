"""Write the resolved study file and the table of scenarios."""

from pathlib import Path

from rmm.study import write_design
from rmm.study.design.study import load_checked
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    write_design(
        load_checked(snakemake.config["study"], size=snakemake.config["size"]),
        Path(snakemake.output.config).parent,
    )
