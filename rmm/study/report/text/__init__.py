"""Sentences and facts of a report."""
