"""What scripts and notebooks use: ``creemson.process`` and ``creemson.Client``.

The one piece of process-wide state of this package is here: the clients behind :func:`process`, see
docs/decisions/0010-scripting.md.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from creemson.client import Progress, blocking
from creemson.client.blocking import Result
from creemson.client.jobs import Source
from creemson.display import following
from creemson.embedded import embedded

__all__ = ["Client", "process"]

Show: TypeAlias = Callable[[Progress], object] | Literal[False] | None
_default: dict[tuple[int, str | None, str | None], "Client"] = {}
_lock = threading.Lock()


class Client(blocking.Client):
    """A client for scripts, notebooks and threads; see :class:`creemson.client.blocking.Client`.

    Args:
        url: of a server; None is that of the environment's ``CREEMSON_URL``, or else a server of one's own, which
            ends with the client.
        token: proves who asks, where the server wants to know.
        options: for :func:`creemson.client.connect`.

    Raises:
        CreemsonError: there is no server, or it refuses.
    """

    def __init__(self, url: str | None = None, *, token: str | None = None, **options: Any) -> None:
        url = url or os.environ.get("CREEMSON_URL")
        super().__init__(url, where=None if url else embedded, token=token, **options)

    def process(self, source: Source, *, progress: Show = None, **asked: Any) -> Result:
        """Have a table processed, and wait for its result.

        Args:
            source: the path of a file here, or the name of one on the server.
            progress: is called with each :class:`creemson.client.Progress`; None shows a bar on a terminal and in a
                notebook, False shows nothing.
            asked: as for :meth:`creemson.client.Client.process`: ``columns``, ``where``, ``group_by``, ``aggregate``,
                ``sort``, ``limit``, ``distinct``, ``cast``, ``rename``, ``options``, ``strict``,
                ``preview``, ``profile``, ``timeout``, ``on_disconnect``, ``overwrite``.

        Returns:
            The result. Interrupting the wait (Ctrl-C) cancels the work.

        Raises:
            CreemsonError: with the server's reason.
            OSError: the file cannot be read.
        """
        if progress is None:
            with following(str(source)) as show:
                return super().process(source, progress=show, **asked)
        return super().process(source, progress=progress or None, **asked)


def process(
    source: Source, *, url: str | None = None, token: str | None = None, progress: Show = None, **asked: Any
) -> Result:
    """Have a table processed, in one line.

    >>> import creemson
    >>> creemson.process("creemson/samples/penguins.csv", columns=["year"]).rows  # doctest: +SKIP
    344

    The connection, and the server of one's own where there is no other, serve the next call too, and end with
    the program.

    Args:
        source: the path of a file here, or the name of one on the server.
        url: as for :class:`Client`.
        token: proves who asks, where the server wants to know.
        progress: as for :meth:`Client.process`.
        asked: as for :meth:`Client.process`.

    Returns:
        The result.

    Raises:
        CreemsonError: with the server's reason.
        OSError: the file cannot be read.
    """
    with _lock:
        key = (os.getpid(), url, token)  # a forked process has no thread in the background
        client = _default.get(key)
        if client is None or client.closed:
            client = _default[key] = Client(url, token=token)
    return client.process(source, progress=progress, **asked)
