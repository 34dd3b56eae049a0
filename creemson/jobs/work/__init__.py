"""The work that executors do: look-ups, renderings, imports, and what they have in common."""
