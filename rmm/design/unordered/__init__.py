"""Outcomes in unordered categories, as choices between alternatives of each group."""
