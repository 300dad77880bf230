"""Methods of analysis: one replication and one method give rows of estimates."""
