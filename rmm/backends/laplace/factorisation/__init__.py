"""Cholesky factors of the latent vector's precision."""
