"""A server under the load of many for a long time: ``python -m tests.soak``."""
