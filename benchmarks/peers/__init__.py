"""Small honest servers that do the same work over the same messages, and what they leave out is said in each."""
