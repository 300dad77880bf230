"""Tests of `rmm.fit` and the choice of an engine."""
