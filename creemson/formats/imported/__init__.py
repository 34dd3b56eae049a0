"""The columnar copy of a file: what is stored beside its values, so that it tells what a reading of the file tells."""
