"""Likelihoods of durations of which less is known than the time of the event."""
