"""What is fitted, before any data: formula and family with their levels."""
