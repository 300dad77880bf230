"""Tests of simulation studies."""
