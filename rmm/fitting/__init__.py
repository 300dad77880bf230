"""From a formula and a table to a fit: the pipeline, and the choice of an engine."""
