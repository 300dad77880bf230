"""JAGS: program text, and worker processes that run it."""
