"""Draws become answers: tables, predictions, comparisons, plots, files."""
