"""Names of callers."""

__all__ = ["ANYONE"]

ANYONE = "anonymous"
"""The only caller of a server without authentication."""
