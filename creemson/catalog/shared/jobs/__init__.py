"""The jobs of several servers, in one PostgreSQL database."""
