"""The server: listener, WebSocket connections, HTTP, authentication."""
