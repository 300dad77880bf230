"""Write the resolved study file and the table of scenarios."""

from pathlib import Path

from rmm.study import load_study, write_design
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    write_design(
        load_study(snakemake.config["study"], size=snakemake.config["size"]),
        Path(snakemake.output.config).parent,
    )
