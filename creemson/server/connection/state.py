"""The state of one connection. Only its actor changes it; others read it."""

import attrs

from creemson.server.auth.identities import Identity

__all__ = ["ConnectionState"]


@attrs.define
class ConnectionState:
    """What the server knows about a connection.

    Attributes:
        id: names the connection in messages and logs.
        caller: the caller whose files and jobs the connection sees; empty until it is known.
        peer: address of the peer.
        identity: the identity that the peer has proved; None if none is required or proved yet.
        began: when the connection was accepted, on trio's clock.
        processing: number of requests in flight.
        last_activity: when the last message arrived, on trio's clock.
        retry_count: number of errors sent after which the client may retry.
        messages: number of messages received.
        errors: number of errors sent.
        batching: whether the peer understands several answers in one ``batch``.
    """

    id: str
    caller: str
    peer: str = ""
    identity: Identity | None = None
    began: float = 0.0
    processing: int = 0
    last_activity: float = 0.0
    retry_count: int = 0
    messages: int = 0
    errors: int = 0
    batching: bool = False
