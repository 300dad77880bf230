"""Tests against other programs, published numbers and known parameters."""
