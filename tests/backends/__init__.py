"""Tests of programs and engines."""
