"""Tests with many made-up inputs."""
