"""Memberships as arrays: weights, covariates, features, order in time."""
