"""Whether draws can be trusted, and what to try where they cannot."""
