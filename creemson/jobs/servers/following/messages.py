"""What servers tell each other about jobs, as text. See :mod:`creemson.catalog.shared.hints`."""

from typing import Any, TypeAlias

import attrs
import orjson

from creemson.catalog.shared.hints import MAX_HINT
from creemson.jobs.events import Logged, Progressed

__all__ = ["Claims", "Ended", "Follow", "Leave", "Message", "News", "Work", "decode", "encode"]


@attrs.frozen
class Work:
    """Jobs wait."""


@attrs.frozen
class Claims:
    """A server has taken these jobs."""

    server: str
    jobs: tuple[str, ...]


@attrs.frozen
class Ended:
    """A job has ended, or the server does not have it any more: its row says more."""

    job: str


@attrs.frozen
class Follow:
    """A server wants to be told about a job, for a caller who owns it; the others are those of ``Followed``."""

    server: str
    job: str
    caller: str
    timeout: float = 0.0
    keep: bool = True
    is_back: bool = False


@attrs.frozen
class Leave:
    """A server does not want that any more; ``cancelled``: because its requests were cancelled."""

    server: str
    job: str
    cancelled: bool


@attrs.frozen
class News:
    """Progress, or a log message, of a job."""

    event: Progressed | Logged


Message: TypeAlias = Work | Claims | Ended | Follow | Leave | News

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Work, Claims, Ended, Follow, Leave)}
_EVENTS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Progressed, Logged)}


def encode(message: Message) -> str | None:
    """Return the text of a message; None if it is too long for a hint."""
    content = message.event if isinstance(message, News) else message
    values = attrs.asdict(content, recurse=False)
    text = orjson.dumps([type(content).__name__, values])
    return text.decode() if len(text) <= MAX_HINT else None


def decode(text: str) -> Message | None:
    """Return the message; None if it is none of this version of the server.

    >>> decode(encode(Leave("a", "1", cancelled=True)))
    Leave(server='a', job='1', cancelled=True)
    """
    try:
        kind, values = orjson.loads(text)
        if kind in _EVENTS:
            return News(_EVENTS[kind](**values))
        if kind == Claims.__name__:
            values["jobs"] = tuple(values["jobs"])
        return _KINDS[kind](**values)  # type: ignore[no-any-return]
    except (ValueError, TypeError, KeyError):
        return None
