"""One caller's files in the object store."""
