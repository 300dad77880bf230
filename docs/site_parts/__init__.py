"""What is our own in the documentation: generated tables, equations, the running of its code."""
