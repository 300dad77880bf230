"""Jobs of a study: batches, checkpoints, logs, progress."""
