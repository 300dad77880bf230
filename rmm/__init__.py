"""Bayesian multiple-membership multilevel models with estimated weights."""
