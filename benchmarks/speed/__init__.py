"""The speed benchmark: `python -m benchmarks.speed`, or `make bench`."""
