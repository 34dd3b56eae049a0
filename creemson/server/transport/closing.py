"""The end of connections: constants and the exception that all transports share."""

__all__ = ["LINGER", "MIN_WAIT", "Closed"]

MIN_WAIT = 0.1
"""Minimum seconds that a write takes to count as a sign of life: then it has waited until the peer read something."""
LINGER = 2.0
"""Seconds in which a peer can read the last bytes and close its side. What it sends meanwhile is discarded."""


class Closed(Exception):  # noqa: N818 - a state, not always an error
    """The connection is closed.

    Attributes:
        code: the close code; 1006 if there was no close frame.
    """

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(f"{code} {reason or ''}".rstrip())
        self.code = code
