# The workflow of this repository: snakemake --cores N --config study=config/studies/NAME.yaml
# It is in workflow/, where other workflows and installed packages take it from. Snakemake looks for the
# profile beside this file: profiles/ is a link to workflow/profiles/.
include: "workflow/Snakefile"


localrules:
    study,


# Snakemake takes the rule that runs without a target from this file, never from an included one.
rule study:
    default_target: True
    input:
        rules.all.input,
