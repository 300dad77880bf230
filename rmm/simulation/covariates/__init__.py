"""Covariates of members, memberships, groups and nesting units."""
