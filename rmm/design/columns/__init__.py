"""Columns of a table become predictors, outcomes and constants."""
