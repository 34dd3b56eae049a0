"""Stores of several servers that share a catalog and an object store."""
