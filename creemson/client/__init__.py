"""Who asks: the client library. It knows the wire and nothing of the server."""

from creemson.client.connection import Client, connect

__all__ = ["Client", "connect"]
