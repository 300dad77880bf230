"""Performance measures: any table of estimates, scored with Monte Carlo errors."""
