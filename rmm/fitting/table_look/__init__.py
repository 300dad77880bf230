"""What a table holds before a model is chosen: `rmm.look`."""
