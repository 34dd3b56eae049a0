"""What callers share: bounds, the remembered jobs, and turns for slots. Without I/O."""
