"""Before a study runs: replications, sizes, preregistration."""
