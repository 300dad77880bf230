# A simulation study: snakemake --cores N --config study=config/studies/NAME.yaml
# What the keys of config/config.yaml mean: config/README.md.
from snakemake.utils import min_version

min_version("9.14")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/fit.smk"
include: "workflow/rules/stop.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        f"{FOLDER}/report/index.html",
        [record(step) for step in (*BEFORE_REPORT, "report")],
        DATA,
