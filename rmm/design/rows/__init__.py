"""Rows of a table become groups, members and nesting units."""
