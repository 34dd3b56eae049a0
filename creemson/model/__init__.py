"""The domain model, independent of any wire format: queries, results, file names, callers."""
