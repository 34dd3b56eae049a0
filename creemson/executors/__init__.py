"""Executors: run commands on workers, outside the server's process."""
