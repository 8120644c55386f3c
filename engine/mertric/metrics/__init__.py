"""Metrics on arrays: they know no file and no session."""
