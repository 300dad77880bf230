"""Numerics of frequentist methods; they know nothing of studies."""
