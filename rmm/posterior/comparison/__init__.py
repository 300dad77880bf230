"""Fits of the same outcomes compared: cross-validation, evidence, Bayes factors, averages."""
