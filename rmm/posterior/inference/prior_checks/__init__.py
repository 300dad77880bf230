"""What the priors decide: their densities at draws, and power scaling."""
