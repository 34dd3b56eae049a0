"""Makes columnar copies of files, and reads them."""
