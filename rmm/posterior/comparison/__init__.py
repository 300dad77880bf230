"""Fits of the same outcomes compared: cross-validation, Bayes factors, averages."""
