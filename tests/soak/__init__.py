"""A server under load from many users for a long time: ``python -m tests.soak``."""
