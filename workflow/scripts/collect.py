"""Put all batches into one table, in an order that depends on their content only."""

from pathlib import Path

from rmm.study import collect, load_study
from rmm.study.joblog import logged

with logged(snakemake.log[0]):
    study = load_study(snakemake.config["study"])
    collect(study, [Path(part) for part in snakemake.input], Path(snakemake.output[0]))
