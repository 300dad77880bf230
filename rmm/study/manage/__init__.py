"""A study as a folder of results: collect, compare, replay, status."""
