"""Reads a table of estimates of any layout into the layout of studies, and checks it."""
