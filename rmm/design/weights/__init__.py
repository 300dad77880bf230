"""Weight functions on a table: scales, location, weights that are not finite."""
