"""What the priors decide: draws from them, their densities, and power scaling."""
