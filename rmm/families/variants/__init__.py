"""Families whose likelihood a user changes: residual sds by group, observation weights."""
