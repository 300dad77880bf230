# The workflow of this repository: snakemake --cores N --config study=config/studies/NAME.yaml
# It is in workflow/, where other workflows and installed packages take it from.
include: "workflow/Snakefile"
