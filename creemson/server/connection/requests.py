"""The requests in flight, and the order in which legacy requests are answered. Sans-IO.

A request is a message from the client that has no final answer yet. It is identified by a number, because a legacy
request may have no id. Legacy requests are answered in the order in which they arrived: each one takes a slot, and
answers are sent from the first slots:

    slots   [answer] [answer] [ — ] [answer] [ — ]
            └── due ─────┘      └── the oldest request without an answer
"""

import itertools

import attrs

from creemson.wire.messages import ClientMessage, ServerMessage

__all__ = ["LegacyOrder", "Request", "Requests", "Slot"]


@attrs.define(eq=False)
class Slot:
    """The place of one legacy request in the order of the answers."""

    answer: ServerMessage | None = None  # None: not known yet


class LegacyOrder:
    """The answers to legacy requests, each held back until the earlier ones are sent.

    Args:
        limit: maximum number of slots.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots: list[Slot] = []  # an empty deque would take 0.7 KiB in each idle connection

    @property
    def has_room(self) -> bool:
        """Whether one more request may take a slot; otherwise it is refused at once, out of order."""
        return len(self._slots) < self._limit

    def add(self, answer: ServerMessage | None = None) -> Slot:
        """Append a slot, with its answer if it is already known."""
        slot = Slot(answer)
        self._slots.append(slot)
        return slot

    def take_due(self) -> list[ServerMessage]:
        """Remove the answers whose turn it is, and return them in order."""
        due: list[ServerMessage] = []
        for slot in self._slots:
            if slot.answer is None:
                break
            due.append(slot.answer)
        del self._slots[: len(due)]
        return due


@attrs.define(eq=False)
class Request:
    """A message in flight.

    Attributes:
        message: the message.
        size_bytes: its size, for the limit of the bytes in flight.
        slot: the place of its answer, if it is a legacy request.
    """

    message: ClientMessage
    size_bytes: int
    slot: Slot | None = None


class Requests:
    """The requests in flight.

    Attributes:
        by_number: the requests, by number.
        by_id: numbers of the requests that have an id, by their id.
        size_bytes: total size of the messages in flight.
    """

    def __init__(self) -> None:
        self.by_number: dict[int, Request] = {}
        self.by_id: dict[str, int] = {}
        self.size_bytes = 0
        self._numbers = itertools.count(1)

    def add(self, request: Request) -> int:
        """Add a request whose id is not in flight; return its number."""
        number = next(self._numbers)
        self.by_number[number] = request
        self.size_bytes += request.size_bytes
        id_ = request.message.id
        if id_ is not None:
            self.by_id[id_] = number
        return number

    def remove(self, number: int) -> Request:
        """Remove and return a request that gets its final answer; its id may be used again."""
        request = self.by_number.pop(number)
        self.size_bytes -= request.size_bytes
        id_ = request.message.id
        if id_ is not None:
            del self.by_id[id_]
        return request
