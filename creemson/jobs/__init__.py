"""Jobs: the queue that decides when they run, the processor that runs them on executors, and their records."""
