"""Reads text in columns of fixed width, which are aligned with spaces."""
