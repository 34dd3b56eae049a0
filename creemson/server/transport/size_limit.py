"""Checks the size of messages by the headers of their frames, before the payload arrives. Sans-IO."""

import attrs
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

__all__ = ["SizeLimit", "TooLarge"]

_NO_BITS = RsvBits(rsv1=False, rsv2=False, rsv3=False)  # the extension uses none of the reserved bits


class TooLarge(Exception):  # noqa: N818 - describes the message
    """The peer sends a message over its limit. An answer can be sent, then the connection must be closed.

    Attributes:
        binary: whether it is a binary message.
        size: bytes announced by the headers so far.
        limit: maximum number of bytes.
    """

    def __init__(self, *, binary: bool, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes; the limit is {limit}")
        self.binary = binary
        self.size = size
        self.limit = limit


@attrs.define(slots=False)
class SizeLimit(Extension):
    """A wsproto extension that is never negotiated and only checks frame headers.

    wsproto calls it with each header before the payload arrives (RFC 6455 section 5.2), and fails the
    connection with the reason that it returns.

    Attributes:
        text, binary: maximum sizes of text and binary messages in bytes.
        size: bytes of the current message up to the end of the current frame.
        limit: maximum bytes of the current message.
        exceeded: set when a message is over its limit.
        name: name of the extension.
    """

    text: int
    binary: int
    size: int = 0
    limit: int = 0
    exceeded: TooLarge | None = None
    name: str = "creemson-size-limit"
    _done: int = 0  # bytes in complete frames of the current message
    _is_binary: bool = False
    _counted: bool = False  # whether the current frame belongs to a message
    _within: bool = False  # whether a message has begun and not ended

    def enabled(self) -> bool:
        """Return True: the extension is always enabled."""
        return True

    def offer(self) -> bool:
        """Return False: the extension is not offered to the peer."""
        return False

    def accept(self, offer: str) -> None:  # noqa: ARG002 - the interface of Extension
        """Ignore an offer of the peer."""
        return

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        opcode: Opcode,
        rsv: RsvBits,  # noqa: ARG002
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Check a frame's header; the returned reason fails the connection."""
        self._counted = not opcode.iscontrol()
        if not self._counted or (opcode is Opcode.CONTINUATION and not self._within):
            return _NO_BITS  # in the second case, wsproto reports the violation
        if opcode is not Opcode.CONTINUATION:
            self._within = True
            self._done = 0
            self.limit = self.text if opcode is Opcode.TEXT else self.binary
            self._is_binary = opcode is Opcode.BINARY
        # Not accumulated here: wsproto calls again if a segment ends within the header's mask.
        self.size = self._done + payload_length
        if self.size > self.limit:
            self.exceeded = TooLarge(binary=self._is_binary, size=self.size, limit=self.limit)
            return CloseReason.MESSAGE_TOO_BIG
        return _NO_BITS

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> None:  # noqa: ARG002
        """Note that a frame is complete."""
        if self._counted:
            self._done = self.size
            self._within = not fin
