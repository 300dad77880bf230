"""Tests of summaries, diagnostics, predictions and figures."""
