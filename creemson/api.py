"""The API for scripts and notebooks: ``creemson.process`` and ``creemson.Client``.

The clients that :func:`process` uses are the only process-wide state of the package; see
docs/decisions/0010-scripting.md.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from creemson.client import Progress, sync
from creemson.client.arguments import Source
from creemson.client.sync import Result
from creemson.display.progress import job_progress
from creemson.server.embedded import embedded

__all__ = ["Client", "process"]

Show: TypeAlias = Callable[[Progress], object] | Literal[False] | None
"""What shows the progress of a job: a callback, False for nothing, or None for a progress bar."""
_default: dict[tuple[int, str | None, str | None], "Client"] = {}
"""Clients by process id, address and token; the process id, because a fork does not copy the background thread."""
_lock = threading.Lock()


class Client(sync.Client):
    """A client for scripts, notebooks and threads; see :class:`creemson.client.sync.Client`.

    Args:
        url: address of the server; None uses the environment variable ``CREEMSON_URL``, or starts a server, which stops
            with the client.
        token: authenticates the caller, if the server requires it.
        options: for :func:`creemson.client.connect`.

    Raises:
        CreemsonError: there is no server, or it refuses the client.
    """

    def __init__(self, url: str | None = None, *, token: str | None = None, **options: Any) -> None:
        url = url or os.environ.get("CREEMSON_URL")
        super().__init__(url, where=None if url else embedded, token=token, **options)

    def process(self, source: Source, *, progress: Show = None, **arguments: Any) -> Result:
        """Process a table, and wait for the result.

        Args:
            source: the path of a local file, or the name of a file on the server.
            progress: called with each :class:`creemson.client.Progress`; None shows a progress bar on a terminal and
                in a notebook, False shows nothing.
            arguments: as for :meth:`creemson.client.Client.process`: ``columns``, ``where``, ``group_by``,
                ``aggregate``, ``sort``, ``limit``, ``distinct``, ``cast``, ``rename``, ``options``, ``strict``,
                ``preview``, ``profile``, ``timeout``, ``on_disconnect``, ``overwrite``.

        Returns:
            The result. Interrupting the call (Ctrl-C) cancels the job.

        Raises:
            CreemsonError: the server refuses the request, or the job failed.
            OSError: the file cannot be read.
        """
        if progress is None:
            with job_progress(str(source)) as show:
                return super().process(source, progress=show, **arguments)
        return super().process(source, progress=progress or None, **arguments)


def process(
    source: Source,
    *,
    url: str | None = None,
    token: str | None = None,
    progress: Show = None,
    **arguments: Any,
) -> Result:
    """Process a table with one call, and wait for the result.

    >>> import creemson
    >>> creemson.process("creemson/samples/penguins.csv", columns=["year"]).rows  # doctest: +SKIP
    344

    The connection, and the server if one had to be started, are kept for further calls until the program ends.

    Args:
        source: the path of a local file, or the name of a file on the server.
        url: as for :class:`Client`.
        token: authenticates the caller, if the server requires it.
        progress: as for :meth:`Client.process`.
        arguments: as for :meth:`Client.process`.

    Returns:
        The result.

    Raises:
        CreemsonError: the server refuses the request, or the job failed.
        OSError: the file cannot be read.
    """
    with _lock:
        key = (os.getpid(), url, token)
        client = _default.get(key)
        if client is None or client.closed:
            client = _default[key] = Client(url, token=token)
    return client.process(source, progress=progress, **arguments)
