"""Small servers that do the same work with the same messages; each documents what it lacks."""
