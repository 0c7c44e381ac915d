"""Errors, values as people type them, files, progress bars and figures; knows no network."""
