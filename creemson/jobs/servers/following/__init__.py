"""Follows the jobs of other servers: what servers tell each other, and who is told about which job."""
