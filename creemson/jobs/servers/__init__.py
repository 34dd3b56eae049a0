"""Several servers that share their jobs: any of them takes a job, any of them answers for it."""
