"""Storage of uploads, outputs and unfinished uploads. Without trio: callers run the blocking methods in threads."""
