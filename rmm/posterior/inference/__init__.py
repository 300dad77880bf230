"""What the draws say of priors and of hypotheses."""
