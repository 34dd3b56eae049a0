"""What is done: reading a file, running a query on it, and the queue of jobs around that."""
