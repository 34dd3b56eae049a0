"""Creemson: a real-time server for tabular files."""

__version__ = "0.1.0"
