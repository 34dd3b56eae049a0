"""Finds out how a CSV is laid out: its delimiter, what stands above and below the table, its header."""
