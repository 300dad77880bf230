"""Predictions of known and new groups, and checks of the model by them."""
