"""The text and the data of Stan programs."""
