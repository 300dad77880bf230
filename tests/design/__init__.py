"""Tests of arrays, labels, priors and checks of a model with its table."""
