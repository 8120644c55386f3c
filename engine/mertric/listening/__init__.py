"""Metrics against listeners: ratings files, correlation, its uncertainty, and the agreement among raters."""
