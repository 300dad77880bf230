"""The fast engine of our own: latent vector integrated out, hyperparameters by importance."""
