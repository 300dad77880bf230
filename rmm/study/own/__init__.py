"""A user's own methods and data: code and tables in files beside the study file."""
