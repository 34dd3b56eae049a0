"""The events of a job, which are sent to its waiters."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from creemson.errors import CreemsonError

__all__ = ["Accepted", "Ended", "Event", "Logged", "Progressed", "Waiter", "events_after"]


@attrs.frozen
class Waiter:
    """A request of a connection that waits for a job.

    Attributes:
        connection: id of the connection.
        request: number of the request, unique within the connection.
        keep: whether the job continues when the connection is lost.
    """

    connection: str
    request: int
    keep: bool = attrs.field(default=True, eq=False)


@attrs.frozen
class Accepted:
    """The job was accepted. ``position`` is its place in the queue; at 0, it starts at once."""

    job: str
    position: int


@attrs.frozen
class Progressed:
    """The progress of a job. ``seq`` numbers the events of a job; for ``figures`` see ``JobQueue.progress``."""

    job: str
    seq: int
    figures: Mapping[str, Any]


@attrs.frozen
class Logged:
    """A log message about a job."""

    job: str
    seq: int
    level: Literal["info", "warning"]
    message: str


@attrs.frozen
class Ended:
    """The end of a request: the job's value, or an error.

    A refused request has neither ``job`` nor ``seq``. A request whose job continues without it has no ``seq``.
    ``cached``: whether the value is served from cache.
    """

    job: str | None
    seq: int | None
    value: Any = None
    error: CreemsonError | None = None
    cached: bool = False


Event: TypeAlias = Accepted | Progressed | Logged | Ended


def events_after(seq: int, logged: Iterable[Logged], latest: Progressed | None) -> list[Logged | Progressed]:
    """Return the log messages and the latest progress of a job, as far as they have a number above ``seq``."""
    events: list[Logged | Progressed] = [*logged, *([] if latest is None else [latest])]
    return [event for event in sorted(events, key=lambda event: event.seq) if event.seq > seq]
