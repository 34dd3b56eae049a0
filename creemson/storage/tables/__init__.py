"""The columnar copies of files: which there are, and how much room they may take."""
