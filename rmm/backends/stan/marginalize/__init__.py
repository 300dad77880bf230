"""Effects that Stan need not sample: the strategies, and their program text."""
