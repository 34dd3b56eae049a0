"""The wire protocol: its messages and their encoding. No I/O, no trio."""
