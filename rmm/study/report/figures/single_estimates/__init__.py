"""Figures of the estimates of single data sets."""
