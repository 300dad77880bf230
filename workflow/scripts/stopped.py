"""Keep the decision that ends a scenario."""

import shutil

from rmm.study.manage.steps import end_job
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    shutil.copyfile(snakemake.input[0], snakemake.output[0])
    end_job(snakemake.input)
