"""The precision of the latent vector, and its Cholesky factors."""
