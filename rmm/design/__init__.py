"""Model and table become arrays and labels."""
