"""Limits of messages, seen from a frame's header on, before its bytes arrive. Sans-IO."""

import attrs
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

__all__ = ["SizeLimit", "TooLarge"]

_NO_BITS = RsvBits(rsv1=False, rsv2=False, rsv3=False)


class TooLarge(Exception):  # noqa: N818 - what the message is
    """The peer sends a message over its limit. It can be answered, then the connection must be closed.

    Attributes:
        binary: whether it is a binary message.
        size: bytes announced so far.
        limit: bytes allowed.
    """

    def __init__(self, *, binary: bool, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes, allowed are {limit}")
        self.binary = binary
        self.size = size
        self.limit = limit


@attrs.define(slots=False)
class SizeLimit(Extension):
    """A wsproto extension that is never offered: it only looks at the frame headers.

    wsproto calls it with each header before the payload has come (RFC 6455 section 5.2), and fails the
    connection with the reason that it returns.
    """

    text: int
    binary: int
    size: int = 0
    limit: int = 0
    exceeded: TooLarge | None = None
    name: str = "creemson-size-limit"
    _done: int = 0  # bytes of the message's frames that are complete
    _of_bytes: bool = False
    _counted: bool = False
    _within: bool = False

    def enabled(self) -> bool:
        """It is in force."""
        return True

    def offer(self) -> bool:
        """It is not talked about."""
        return False

    def accept(self, offer: str) -> None:  # noqa: ARG002 - the interface's
        """It takes no offer."""
        return

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        opcode: Opcode,
        rsv: RsvBits,  # noqa: ARG002
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Look at a frame's header."""
        self._counted = not opcode.iscontrol()
        if not self._counted or (opcode is Opcode.CONTINUATION and not self._within):
            return _NO_BITS  # in the second case, wsproto itself finds the fault
        if opcode is not Opcode.CONTINUATION:
            self._within = True
            self._done = 0
            self.limit = self.text if opcode is Opcode.TEXT else self.binary
            self._of_bytes = opcode is Opcode.BINARY
        # Not added up here: wsproto asks again when a segment has ended within the header's mask.
        self.size = self._done + payload_length
        if self.size > self.limit:
            self.exceeded = TooLarge(binary=self._of_bytes, size=self.size, limit=self.limit)
            return CloseReason.MESSAGE_TOO_BIG
        return _NO_BITS

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> None:  # noqa: ARG002
        """A frame has come whole."""
        if self._counted:
            self._done = self.size
            self._within = not fin
