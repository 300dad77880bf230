"""The evidence (marginal likelihood) of a fit."""
