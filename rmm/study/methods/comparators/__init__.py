"""Frequentist comparators that a referee asks for: numerics, without studies."""
