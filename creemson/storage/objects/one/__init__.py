"""What one server keeps in its memory about the files in an object store, because no other server uses them."""
