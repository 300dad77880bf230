"""Who belongs to which group: membership structures."""
