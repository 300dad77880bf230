"""A user's table or file becomes typed columns."""
