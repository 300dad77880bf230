"""Priors of a model on a table: defaults, statements, and what they are about."""
