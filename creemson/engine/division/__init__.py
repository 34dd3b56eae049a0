"""Work on a table that several workers do together: each some of its rows, and one puts their results together."""
