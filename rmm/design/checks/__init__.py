"""What a table cannot tell about a model: checks before a fit."""
