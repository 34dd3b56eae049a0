"""The job queue: decides which job runs next. Without I/O."""
