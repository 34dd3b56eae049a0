"""What several servers that share an object store know together: it is in the rows of the catalog."""
