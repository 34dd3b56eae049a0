"""The transports: turn bytes into messages and back (TLS, HTTP/1.1, WebSocket frames)."""
