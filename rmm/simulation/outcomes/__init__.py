"""Linear predictors and outcomes of simulated data."""
