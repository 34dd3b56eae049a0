"""Detects what a file is from its bytes: format, encoding, the tables of an archive; names what cannot be read."""
