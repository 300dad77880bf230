"""Hypotheses about parameters: their text, probabilities, and density ratios at a point."""
