"""Tests of the Snakemake workflow, with kills and clusters."""
