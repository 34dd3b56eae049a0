"""Dask's client, with types: the only module of the server that imports ``distributed``.

The client is the blocking one: it has an event loop in a thread of its own. Its methods here are called in threads,
except for ``submit`` and ``cancel``, which only put a message into a queue.

``distributed`` is imported with this module, which takes a second; so this module is imported only if Dask is used.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs
import dask
import distributed

from creemson.executors.dask.tls import TlsFiles

__all__ = ["Connection", "Task", "TaskEnd", "WorkerInfo", "scheduler_version", "security"]

_LOGGERS = ("distributed", "distributed.client", "tornado.application")
"""Loggers of the client that have levels of their own."""

SEND_INTERVAL = 0.001
"""Seconds in which the client collects messages before it sends them. The default of 10 ms is longer than many commands
take; the workers collect for 1 to 2 ms."""

TaskEnd: TypeAlias = Literal["finished", "error", "cancelled"]


@attrs.frozen
class WorkerInfo:
    """A worker of the cluster, as its scheduler sees it.

    Attributes:
        address: its address.
        resources: what it announces, see :mod:`creemson.executors.dask.versions`.
    """

    address: str
    resources: Sequence[str]


class Task:
    """A function that runs on the cluster."""

    def __init__(self, future: Any) -> None:
        self._future = future

    def on_end(self, call: Callable[[TaskEnd], object]) -> None:
        """Let ``call`` be called, by another thread, when the task has ended."""
        self._future.add_done_callback(lambda future: call(_end_of(future.status)))

    def result(self, timeout: float) -> Any:
        """Fetch what the function has returned. Blocks.

        Raises:
            OSError: the worker that has the result is gone, or does not send it in ``timeout`` seconds.
            Exception: raised by the function.
        """
        try:
            return self._future.result(timeout=timeout)
        except distributed.client.FutureCancelledError as error:
            raise ConnectionError(str(error)) from error

    def cancel(self) -> None:
        """Cancel it. What runs already is only told to the plugins of its worker."""
        with contextlib.suppress(Exception):  # the connection is closed
            self._future.cancel(force=True, reason="creemson")

    def release(self) -> None:
        """Let the cluster forget the task and its result."""
        with contextlib.suppress(Exception):  # the connection is closed
            self._future.release()


def scheduler_version(address: str, files: TlsFiles | None, *, timeout: float) -> str:
    """Return the version of ``distributed`` that a scheduler has. Blocks.

    To be asked before a :class:`Connection` is opened: Dask's client does not understand other versions, and what is
    left of it keeps the program from ending for 16 s.

    Args:
        address: address of the scheduler.
        files: TLS files; None without TLS.
        timeout: maximum seconds.

    Raises:
        OSError: there is no scheduler, or it does not accept the certificate.
    """
    _silence()

    async def ask() -> str:
        arguments = (security(files) or distributed.Security()).get_connection_args("client")
        async with distributed.rpc(address, timeout=timeout, connection_args=arguments) as scheduler:
            # Not ``get_versions`` of a client: it also asks the workers, and waits for a frozen one.
            found = await scheduler.versions(packages=[])
            return str(found["packages"]["distributed"])

    try:
        return asyncio.run(asyncio.wait_for(ask(), timeout))
    except OSError:
        raise
    except Exception as error:
        raise ConnectionError("its answer is not understood: it is no Dask scheduler") from error


class Connection:
    """A connection to a scheduler; blocks until it is open.

    Args:
        address: address of the scheduler.
        files: TLS files; None without TLS.
        timeout: maximum seconds.

    Raises:
        OSError: there is no scheduler, or it does not accept the certificate.
    """

    def __init__(self, address: str, files: TlsFiles | None, *, timeout: float) -> None:
        _silence()
        with dask.config.set({"distributed.comm.timeouts.connect": f"{timeout} s"}):
            try:
                self._client = distributed.Client(
                    address, security=security(files), timeout=timeout, set_as_default=False
                )
            except OSError:
                raise
            except Exception as error:  # the client only asserts that it understands the answer
                raise ConnectionError("its answer is not understood") from error
        # There is no setting for it.
        self._client.scheduler_comm.interval = SEND_INTERVAL

    @property
    def is_open(self) -> bool:
        """Whether the scheduler is connected."""
        return bool(self._client.status == "running")

    def submit(
        self, function: Callable[..., Any], *args: object, key: str, resources: Mapping[str, int]
    ) -> Task:
        """Let the cluster run a function, which must be importable there."""
        future = self._client.submit(
            function, *args, key=key, pure=False, resources=dict(resources), retries=0
        )
        return Task(future)

    def subscribe(self, topic: str, handle: Callable[[Any], object]) -> None:
        """Let ``handle`` be called, by another thread, with each event of a topic."""
        self._client.subscribe_topic(topic, lambda event: handle(event[1]))

    def workers(self) -> Sequence[WorkerInfo]:
        """List the workers. Blocks.

        Raises:
            OSError: the scheduler does not answer.
        """
        # Not ``scheduler_info``: its answer may be one that the client has asked for meanwhile, without workers.
        found = self._client.sync(self._client.scheduler.identity, n_workers=-1)["workers"]
        return [_worker_info(address, fields) for address, fields in found.items()]

    def worker_ttl(self) -> float:
        """Return the seconds after which the scheduler gives up a worker that says nothing. Blocks.

        Raises:
            OSError: the scheduler does not answer.
        """
        value = self._client.run_on_scheduler(dask.config.get, "distributed.scheduler.worker-ttl")
        return float(dask.utils.parse_timedelta(value) or float("inf"))

    def ask_workers(
        self, function: Callable[..., Any], argument: object, workers: Sequence[str]
    ) -> Mapping[str, Any]:
        """Call a function on workers, whatever they do; return what it returns, by address. Blocks.

        Raises:
            OSError: the scheduler does not answer.
        """
        found = self._client.run(function, argument, workers=list(workers), on_error="ignore")
        return dict(found)

    def close(self) -> None:
        """Close it. Blocks."""
        with contextlib.suppress(Exception):
            self._client.close(timeout=2)


def _silence() -> None:
    """Keep Dask from logging: whatever is wrong, this program reports it in its own words, once."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def security(files: TlsFiles | None) -> Any:
    """Return Dask's settings for these TLS files: both sides must have a certificate of the same authority."""
    if files is None:
        return None
    ca, cert, key = str(files.ca), str(files.cert), str(files.key)
    return distributed.Security(
        require_encryption=True,
        tls_ca_file=ca,
        tls_client_cert=cert,
        tls_client_key=key,
        tls_worker_cert=cert,
        tls_worker_key=key,
        tls_scheduler_cert=cert,
        tls_scheduler_key=key,
    )


def _end_of(status: str) -> TaskEnd:
    return "finished" if status == "finished" else "error" if status == "error" else "cancelled"


def _worker_info(address: str, fields: Mapping[str, Any]) -> WorkerInfo:
    return WorkerInfo(address, tuple(fields.get("resources", {})))
