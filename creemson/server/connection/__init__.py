"""One WebSocket connection: its protocol (sans-IO), and the actor that carries out the protocol's decisions."""
