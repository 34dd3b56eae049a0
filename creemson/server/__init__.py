"""Who listens: listener, connection actors and the protocol that they speak."""
