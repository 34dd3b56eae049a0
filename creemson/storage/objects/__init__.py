"""Stores in an S3-compatible object store: bytes are objects, and the catalog knows what there is."""
