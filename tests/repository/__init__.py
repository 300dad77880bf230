"""Tests of the repository: documentation, packaging, imports, security."""
