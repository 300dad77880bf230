"""A study file becomes a checked `Study`."""
