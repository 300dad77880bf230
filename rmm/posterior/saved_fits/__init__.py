"""A fit as one NetCDF file: written, and checked before it is read."""
