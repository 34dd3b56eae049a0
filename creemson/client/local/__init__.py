"""The local files that a client reads and writes."""
