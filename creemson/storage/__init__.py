"""What is kept: files and, later, the catalog. No trio: callers run what blocks in a thread."""
