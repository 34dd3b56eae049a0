"""Windows: some rows of a table, as a page shows them."""
