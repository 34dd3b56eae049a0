"""Authentication, allowed origins and rate limits."""
