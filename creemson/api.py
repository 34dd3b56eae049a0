"""The API for scripts and notebooks: ``creemson.process`` and ``creemson.Client``.

The clients that :func:`process` uses are the only process-wide state of the package; see
docs/decisions/0010-scripting.md.
"""

import os
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from creemson.client.arguments import (
    Aggregates,
    ColumnNames,
    Conditions,
    DistinctRows,
    ReadingOptions,
    SortKeys,
    Source,
)
from creemson.client.session import Token
from creemson.client.sync import client as sync
from creemson.client.sync.client import OnProgress, Show
from creemson.client.sync.result import Result
from creemson.display.progress import job_progress
from creemson.server.embedded import embedded

__all__ = ["Client", "process"]

_default: dict[tuple[int, str | None, str | None], "Client"] = {}
"""Clients by process id, address and token; the process id, because a fork does not copy the background thread."""
_lock = threading.Lock()


class Client(sync.Client):
    """A client for scripts, notebooks and threads. Any number of threads may use it at the same time.

    It stays connected: when the connection is lost, it reconnects, repeats what was not answered, and resumes uploads
    and downloads. An error concerns only the call that raises it.

    Args:
        url: address of the server, such as ``http://127.0.0.1:8000``, or several, see
            :func:`creemson.client.connect`; None uses the environment variable ``CREEMSON_URL``, or starts a server,
            which stops with the client.
        token: authenticates the caller, if the server requires it; or a function that returns the token.
        ssl_context: for TLS; None trusts the certificates that the system trusts.
        give_up_after: seconds without a useful connection after which :class:`ConnectionLost` is raised.
        wait_for_server: whether to retry the first connection for ``give_up_after`` seconds, instead of trying it once.
        handshake_timeout: seconds from opening the connection to the server's welcome.
        answer_timeout: maximum number of seconds until an answer; does not apply to jobs.
        heartbeat_interval: seconds between two pings.
        heartbeat_timeout: seconds after a ping within which the server must respond.

    Raises:
        CreemsonError: there is no server, or it refuses the client.
        ValueError: a duration is negative or not a number.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        token: Token = None,
        ssl_context: ssl.SSLContext | None = None,
        give_up_after: float = 60.0,
        wait_for_server: bool = False,
        handshake_timeout: float = 10.0,
        answer_timeout: float = 310.0,
        heartbeat_interval: float = 20.0,
        heartbeat_timeout: float = 20.0,
    ) -> None:
        url = url or os.environ.get("CREEMSON_URL") or None
        options = {
            "token": token,
            "ssl_context": ssl_context,
            "give_up_after": give_up_after,
            "wait_for_server": wait_for_server,
            "handshake_timeout": handshake_timeout,
            "answer_timeout": answer_timeout,
            "heartbeat_interval": heartbeat_interval,
            "heartbeat_timeout": heartbeat_timeout,
        }
        super().__init__(url, where=None if url else embedded, options=options)

    def _progress_bar(self, source: Source) -> AbstractContextManager[OnProgress]:
        name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", "")
        return job_progress(str(name) or type(source).__name__)


def process(
    source: Source,
    *,
    columns: ColumnNames | None = None,
    where: Conditions | None = None,
    group_by: ColumnNames | None = None,
    aggregate: Aggregates | None = None,
    sort: SortKeys | None = None,
    limit: int | None = None,
    distinct: DistinctRows | None = None,
    cast: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    options: ReadingOptions | None = None,
    strict: bool = False,
    preview: int | None = None,
    profile: bool = False,
    timeout: float | None = None,
    on_disconnect: Literal["keep", "cancel"] = "keep",
    name: str | None = None,
    overwrite: bool = False,
    progress: Show = None,
    url: str | None = None,
    token: str | None = None,
) -> Result:
    """Process a table with one call, and wait for the result.

    >>> import creemson
    >>> creemson.process("creemson/samples/penguins.csv", columns=["year"]).rows  # doctest: +SKIP
    344

    The connection, and the server if one had to be started, are kept for further calls until the program ends.

    Args:
        source: the path of a local file, which is uploaded unless the server has the same content under its name;
            the name of a file on the server; or content to upload: bytes, an open file, or a table of polars,
            pandas, pyarrow or any other library with Arrow's PyCapsule interface.
        columns: 0-based indices or names, in the order of the output; None selects all.
        where: conditions that must all hold, such as ``[("delay", ">", 60)]``.
        group_by: the columns to group by, which come first in the output.
        aggregate: aggregates of each group, such as ``[("delay", "mean", "average")]``; ``("*", "count")``
            counts rows.
        sort: a column, or sort keys such as ``["carrier", ("delay", "desc")]``, the most significant first.
        limit: maximum number of rows of the output.
        distinct: True removes duplicate rows of the output; columns remove rows that are the same in these columns.
        cast: types to convert columns to, such as ``{"zip": "string"}``.
        rename: new names of columns of the output, such as ``{"dep_delay": "delay"}``.
        options: how to read the file, where this is not detected correctly, such as ``{"delimiter": ";"}``.
        strict: whether a file that needs repairs is an error.
        preview: number of rows to include in the result.
        profile: whether the result describes each column.
        timeout: maximum duration of the job in seconds.
        on_disconnect: whether the job is kept or cancelled when the connection is lost.
        name: name of the upload on the server; None uses the name of the local or open file. Content without any
            name is removed from the server when the job has ended.
        overwrite: whether an upload may replace a different file of that name.
        progress: called with each :class:`creemson.client.Progress`; None shows a progress bar on a terminal and in a
            notebook, False shows nothing.
        url: one address, as for :class:`Client`.
        token: authenticates the caller, if the server requires it.

    Returns:
        The result. Interrupting the call (Ctrl-C) cancels the job.

    Raises:
        InvalidFormat: the arguments are invalid.
        CreemsonError: the server refuses the request, or the job failed.
        OSError: the file cannot be read.
    """
    with _lock:
        key = (os.getpid(), url or os.environ.get("CREEMSON_URL"), token)
        client = _default.get(key)
        if client is None or client.closed:
            client = _default[key] = Client(url, token=token)
    return client.process(
        source,
        columns=columns,
        where=where,
        group_by=group_by,
        aggregate=aggregate,
        sort=sort,
        limit=limit,
        distinct=distinct,
        cast=cast,
        rename=rename,
        options=options,
        strict=strict,
        preview=preview,
        profile=profile,
        timeout=timeout,
        on_disconnect=on_disconnect,
        name=name,
        overwrite=overwrite,
        progress=progress,
    )
