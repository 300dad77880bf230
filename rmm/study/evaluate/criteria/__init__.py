"""Criteria that a study must meet, one file each."""
