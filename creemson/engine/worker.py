"""A worker process: it runs the engine, one command at a time, and does nothing else.

``python -m creemson.processing.worker`` reads commands from standard input and writes events to
standard output, one JSON object a line:

    {"op": "run", "query": …, "source": path, "target": path, "part": path}
    {"op": "render", "source": path, "target": path, "part": path, "format": name}
    {"op": "columns", "source": path, "name": shown in messages, "options"?: …}
    {"op": "rows", "source": path, "name": shown in messages, "offset": …, "limit": …, "options"?: …}
    {"op": "cancel"}

    {"event": "ready"}
    {"event": "began"}
    {"event": "progress", "phase": …, "bytes_read": …, "bytes_total": …, "rows": …, "fraction": …}
    {"event": "done", "value": …} | {"event": "stopped"}
    {"event": "failed", "reason": …, "message": …, "details": […], "transient": bool, "traceback": … or null}

``began`` answers every command but ``cancel`` at once: a command that it is missing for was not touched
and may be given to another worker. A ``traceback`` is for the log of the server.

The end of its input is the end of the process, at once and in the middle of whatever it does: so no
worker outlives its server, however that ended. (PR_SET_PDEATHSIG would fire when the *thread* of the
parent that started the worker ends.)
"""

import argparse
import errno
import os
import re
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

import attrs
import orjson

from creemson.errors import CreemsonError, ProcessingError
from creemson.processing import engine
from creemson.processing.engine import Tick
from creemson.storage.files import companion, rejects_name
from creemson.wire import codec
from creemson.wire.messages import Options, Query

__all__ = ["Worker", "main"]

TRANSIENT = frozenset(
    {errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT}
)
"""Faults of the system that another attempt may not meet."""
OS_ERROR = re.compile(r"\(os error (\d+)\)(:|$)", re.MULTILINE)
"""How Rust writes the number of a system's fault; polars hands it over in text alone. (What it quotes
from a file is not at the end of a line.)"""

DISK_RESERVE, DISK_SHARE = 64 << 20, 20
"""Bytes that results leave free on the disk, or on a small one that part of it: whoever has filled a disk to
its last byte can have nothing written down, not even that files are deleted."""

Send = Callable[[Iterable[Mapping[str, Any]]], None]


class Stopped(Exception):  # noqa: N818 - it was asked for
    """The command is not wanted any more."""


class Worker:
    """Carries out commands.

    Args:
        send: writes events, together.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._stop = threading.Event()
        self._folder: Path | None = None  # that is written to
        self._last: list[Mapping[str, Any]] = []  # progress, that is told together with the end
        self._commands: SimpleQueue[Mapping[str, Any]] = SimpleQueue()

    def receive(self, lines: Iterable[bytes]) -> None:
        """Take commands until the input ends; run by a thread of its own, so that ``cancel`` is heard."""
        for line in lines:
            command = orjson.loads(line)
            if command["op"] == "cancel":
                self._stop.set()
            else:
                self._stop.clear()
                self._commands.put(command)

    def run(self) -> None:
        """Carry out what is received, for ever."""
        self._send([{"event": "ready"}])
        while True:
            self.carry_out(self._commands.get())

    def carry_out(self, command: Mapping[str, Any]) -> None:
        """Carry out one command and send how it ended."""
        self._send([{"event": "began"}])
        self._last.clear()
        try:
            event = {"event": "done", "value": self._do(command)}
        except Stopped:
            event = {"event": "stopped"}
        except MemoryError:
            event = _failed(ProcessingError("out_of_memory", "The job needs more memory than a worker has."))
        # The edge of the process: the next command deserves a worker as much as this one did.
        # (A panic of polars is no Exception; and what else is none, Ctrl-C, does not get here.)
        except BaseException as error:
            event = _failure(error)
        self._send([*self._last, event])  # the server is woken once: for a small job that counts

    def _do(self, command: Mapping[str, Any]) -> Any:
        source = Path(command["source"])
        match command["op"]:
            case "run":
                query = codec.structure(command["query"], Query)
                return self._run(command, query, source)
            case "render":
                return self._write(
                    command, lambda part: engine.render(source, part, command["format"], self._tick)
                )
            case "columns":
                return codec.plain(engine.columns(source, command["name"], _options(command)))
            case "rows":
                offset, limit = command["offset"], command["limit"]
                return codec.plain(engine.window(source, command["name"], offset, limit, _options(command)))
            case op:
                raise ValueError(op)

    def _run(self, command: Mapping[str, Any], query: Query, source: Path) -> Any:
        """Run a query; what it rejects appears with its result."""
        rejects = companion(Path(command["part"]), "rejects")
        name = Path(rejects_name(command["target"]))

        def run(part: Path) -> Any:
            outcome = engine.run(query, source, part, self._tick, rejects=rejects)
            if outcome.issues is not None and rejects.exists():
                outcome = attrs.evolve(outcome, issues=attrs.evolve(outcome.issues, rejects=name.name))
            return codec.plain(outcome)

        try:
            value = self._write(command, run)
            if rejects.exists():
                rejects.replace(name)
            return value
        finally:
            rejects.unlink(missing_ok=True)

    def _write(self, command: Mapping[str, Any], write: Callable[[Path], Any]) -> Any:
        """Let the target appear whole or not at all; it was told what temporary name to use."""
        part = Path(command["part"])
        self._folder = part.parent
        try:
            _check_room(part.parent)
            value = write(part)
            part.replace(command["target"])
        finally:
            self._folder = None
            part.unlink(missing_ok=True)
        return value

    def _tick(self, tick: Tick) -> None:
        if self._stop.is_set():
            raise Stopped
        if self._folder is not None:
            _check_room(self._folder)
        event = {"event": "progress", **attrs.asdict(tick)}
        if tick.fraction == 1:
            self._last.append(event)
        else:
            self._send([event])


def _options(command: Mapping[str, Any]) -> Options | None:
    options = command.get("options")
    return None if options is None else codec.structure(options, Options)


def _check_room(folder: Path) -> None:
    disk = os.statvfs(folder)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < min(
        DISK_RESERVE, disk.f_blocks * disk.f_frsize // DISK_SHARE
    ):
        raise OSError(errno.ENOSPC, "No room is left but for the reserve")


def _failure(error: BaseException) -> dict[str, Any]:
    """The event for whatever went wrong."""
    number = _system_fault(error)
    if number is not None:
        # That a file is removed meanwhile is its owner's right, and nothing for the log.
        cause = None if number == errno.ENOENT else error
        return _failed(_disk_fault(number), transient=number in TRANSIENT, cause=cause)
    if isinstance(error, CreemsonError):
        return _failed(error)
    ours = ProcessingError("internal", "The work failed for a reason that is ours; it is logged.")
    return _failed(ours, cause=error)


def _failed(
    error: CreemsonError, *, transient: bool = False, cause: BaseException | None = None
) -> dict[str, Any]:
    return {
        "event": "failed",
        "reason": error.reason,
        "message": error.message,
        "details": error.details,
        "transient": transient,
        "traceback": None if cause is None else "".join(traceback.format_exception(cause)),
    }


def _system_fault(error: BaseException) -> int | None:
    """The ``errno`` behind an error, if there is one: a full disk may come as an error of polars."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        # Our own messages may quote anything.
        found = None if isinstance(cause, CreemsonError) else OS_ERROR.search(str(cause))
        if found:
            return int(found[1])
        cause = cause.__cause__
    return None


def _disk_fault(number: int) -> ProcessingError:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return ProcessingError("storage_full", "There is no room on the server's disk for the result.")
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ProcessingError(
            "internal",
            "The server's disk cannot be written to at the moment, only read. It is logged; try again later.",
        )
    if number == errno.ENOENT:
        return ProcessingError("file_not_found", "The file was removed while it was being worked on.")
    return ProcessingError(
        "internal", f"The server could not reach its disk ({os.strerror(number)}). It is logged."
    )


def _protocol_stream() -> BinaryIO:
    """Standard output for events alone: whatever a library prints goes to standard error instead."""
    stream = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return stream


def _limit_memory(limit: int) -> None:
    """Let allocations beyond ``limit`` bytes of data fail; Rust then ends the process."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _listen(worker: Worker, lines: Iterable[bytes]) -> NoReturn:
    """Hear commands, and end the process with its input: a deaf worker would be of no use."""
    try:
        worker.receive(lines)
    except Exception:  # what cannot be understood comes from half a line at the worst
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Run a worker process on standard input and output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-bytes", type=int, default=0)
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    # The server decides what becomes of its workers, also if Ctrl-C does reach them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(arguments.nice)
    if arguments.data_bytes:
        _limit_memory(arguments.data_bytes)
    stream = _protocol_stream()
    lock = threading.Lock()

    def send(events: Iterable[Mapping[str, Any]]) -> None:
        lines = memoryview(
            b"".join(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events)
        )
        with lock:  # polars' threads tick, and so may the main one
            while lines:  # an unbuffered write may be short
                lines = lines[stream.write(lines) :]

    worker = Worker(send)
    threading.Thread(target=_listen, args=(worker, sys.stdin.buffer), daemon=True).start()
    try:
        worker.run()
    except BrokenPipeError:  # the server has gone; the other thread sees it too
        os._exit(0)


if __name__ == "__main__":
    main()
