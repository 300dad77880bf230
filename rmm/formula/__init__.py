"""Text becomes frozen descriptions: formulas, expressions, weight functions, priors."""
