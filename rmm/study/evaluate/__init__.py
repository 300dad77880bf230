"""Estimates become performance: measures, power, criteria."""
