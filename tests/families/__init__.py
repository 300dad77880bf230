"""Tests of outcome families."""
