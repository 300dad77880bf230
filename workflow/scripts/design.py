"""Write the resolved study file and the table of scenarios."""

from rmm.study.files.end_signals import end_without_traceback

end_without_traceback()

from pathlib import Path

from rmm.study import write_design
from rmm.study.design.study import load_checked
from rmm.study.manage.steps import end_step
from rmm.study.run.log import logged

with logged(snakemake.log[0]):
    study = load_checked(snakemake.config["study"], size=snakemake.config["size"])
    folder = Path(snakemake.output.config).parent
    write_design(study, folder)
    end_step("design", folder, snakemake.output.record)
