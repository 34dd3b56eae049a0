r"""A worker process, which runs one command of the engine at a time.

``python -m creemson.engine.worker`` reads commands from standard input and writes events to standard output. Each is
a JSON object on one line.

Commands::

    {"op": "run", "query": …, "source": path, "identity"?: …, "target": path, "part": path, "parts"?: [path, …]}
    {"op": "part", "query": …, "source": path, "identity"?: …, "copy": path, "number": integer, "count": integer,
     "target": path, "part": path}
    {"op": "import", "source": path, "identity"?: …, "name": string, "options"?: …, "target": path, "part": path,
     "objects"?: address}
    {"op": "render", "source": path, "target": path, "part": path, "format": name}
    {"op": "columns", "source": path, "identity"?: …, "name": string, "options"?: …}
    {"op": "rows", "source": path, "identity"?: …, "name": string, "offset": integer, "limit": integer, "options"?: …}
    {"op": "cancel"}

``run``, ``columns`` and ``rows`` may have ``"limits": {"message": integer, "answer": integer}``: the maximum bytes, as
JSON, of an answer that can be shortened and of any other. ``run`` and ``render`` may have ``"room": integer``, the
maximum bytes of their target, with its texts and rejects.

``rows`` may have ``"texts": true``: the cells are texts, as a CSV shows them; and ``"view": {"where"?: …, "find"?: …,
"sort"?: …}``: which rows, and in which order.

``import`` makes the columnar copy of a file, a folder; its value is the number of its rows and bytes, or null for a
file that gets none. With ``"objects"``, its files also become objects, whose names begin with this. ``run`` and
``rows`` may have ``"copy": path``, which is read in place of the file if that is
possible.

``part`` carries out a query on some rows of a file's copy, as far as that is possible without the other rows: those of
part ``number`` of ``count`` parts. Its value is false, and nothing is written, if one worker must do the whole query.
``run`` with ``"parts"`` puts together what these commands have written.

``run`` carries out a query, ``render`` converts a stored output to another format, ``columns`` describes the columns of
a file, ``rows`` reads some of its rows. ``identity`` is a list of inode, size and time of modification (in ns) of the
file that the server has found; if another file has its path meanwhile, or if the file is changed during the command,
the command fails with ``file_changed``. ``name`` is the file's name in messages. ``part`` is the temporary path to
write to; the worker renames it to ``target`` when the file is complete, and removes it after a failure. ``query`` and
``options`` have the same form as in the protocol. ``cancel`` stops the current command, and is ignored without one.

Events::

    {"event": "ready"}
    {"event": "began"}
    {"event": "progress", "phase": string, "bytes_read": integer, "bytes_total": integer, "rows": integer,
     "fraction": number}
    {"event": "done", "value": …}
    {"event": "stopped"}
    {"event": "failed", "reason": slug, "message": string, "details": [string, …], "transient": boolean,
     "cause": string or null, "traceback": string or null}

``ready`` is sent once, when the process can receive commands. Each command except ``cancel`` is answered by ``began``
at once, then by any number of ``progress`` events, and finally by exactly one of ``done``, ``stopped`` (after
``cancel``) and ``failed``. A command without ``began`` has had no effect and may be sent to another worker.
``transient`` means that another attempt may succeed; ``cause`` (a full disk, an object store that fails) and
``traceback`` (anything else that was not to be expected) are for the server's log. The server sends the next command
after the final event, because receiving a command clears an earlier ``cancel``.

No worker outlives its server, even if the server crashes. The process exits when its input ends, even during a command;
and in case that the thread which reads the input cannot run, because other code does not release the GIL, the kernel
kills the process when the other end of the *lifeline* is closed (:func:`_hold`).
"""

import argparse
import contextlib
import errno
import fcntl
import gc
import math
import os
import re
import resource
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

import attrs
import orjson

from creemson.engine import run as engine
from creemson.engine.answers import MAX_DETAILS, MAX_TRACEBACK, AnswerLimits, bounded, clipped
from creemson.engine.division.parts import IndivisibleError, merging, run_part
from creemson.engine.export.render import render
from creemson.engine.progress import Progress
from creemson.engine.source import opened
from creemson.engine.tables.read import may_be_of_copy
from creemson.engine.tables.write import copy_table
from creemson.engine.windows.filters import Filters
from creemson.engine.windows.survey import Surveys
from creemson.engine.windows.window import window as read_window
from creemson.errors import CreemsonError, ObjectStoreError, ProcessingError, disk_error, internal_error
from creemson.formats.csv.examined import KnownFiles
from creemson.formats.imported.place import ABOUT, ISSUES, ROWS, Place
from creemson.model.converter import plain, structure
from creemson.model.query import Options, Query, View
from creemson.storage import durable
from creemson.storage.names import companion, is_remote, rejects_name, remove_path, texts_name
from creemson.storage.objects.address import Address
from creemson.storage.objects.scratch import Scratch

__all__ = ["Worker", "main"]

TRANSIENT = frozenset(
    {errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT}
)
"""System errors that may not occur in another attempt."""
OS_ERROR = re.compile(r"\(os error (\d+)\)(:|$)", re.MULTILINE)
"""How Rust prints the number of a system error, which polars reports only as text. (Text that polars quotes from a file
is not at the end of a line.)"""
DISK_RESERVE, DISK_SHARE = 64 << 20, 20
"""Results leave ``DISK_RESERVE`` bytes of the disk free, or 1/``DISK_SHARE`` of a small disk: on a full disk, the
server could not even record that files are deleted."""

Send = Callable[[Iterable[Mapping[str, Any]]], None]
"""Writes several events at once."""


class Stopped(Exception):  # noqa: N818 - it was requested
    """The command was cancelled."""


class Worker:
    """Carries out commands, one at a time.

    Args:
        send: Writes events.
        scratch: keeps copies of files in an object store; None: there is no object store.
    """

    def __init__(self, send: Send, scratch: Scratch | None = None) -> None:
        self._send = send
        self._scratch = scratch
        self._stop = threading.Event()
        self._surveys, self._filters = Surveys(), Filters()
        self._known = KnownFiles()
        self._part: Path | None = None  # the file that is being written
        self._room: float = math.inf  # its maximum size in bytes, with its texts and rejects
        # Progress events that are sent together with the final event.
        self._last: list[Mapping[str, Any]] = []
        self._commands: SimpleQueue[Mapping[str, Any]] = SimpleQueue()

    def receive(self, lines: Iterable[bytes]) -> None:
        """Receive commands until the input ends; called by another thread, so that ``cancel`` always arrives."""
        for line in lines:
            command = orjson.loads(line)
            if command["op"] == "cancel":
                self._stop.set()
            else:
                self._stop.clear()
                self._commands.put(command)

    def run(self) -> None:
        """Carry out the received commands; never returns."""
        self._send([{"event": "ready"}])
        while True:
            self.carry_out(self._commands.get())

    def carry_out(self, command: Mapping[str, Any]) -> None:
        """Carry out one command, and send its events."""
        self._send([{"event": "began"}])
        self._last.clear()
        try:
            event = {"event": "done", "value": self._do(command)}
        except Stopped:
            event = {"event": "stopped"}
        except MemoryError:
            event = _failed(ProcessingError("out_of_memory", "The job needs more memory than a worker has."))
        # No exception may end the worker, which must run the next command. (A panic of polars is a BaseException.)
        except BaseException as error:
            event = _failed_by(error)
        # One write wakes the server only once, which makes small jobs faster.
        self._send([*self._last, event])

    def _do(self, command: Mapping[str, Any]) -> Any:
        """Carry out a command; return a plain value of bounded size."""
        limits = AnswerLimits.of(command)
        match command["op"]:
            case "run":
                return self._run(command, structure(command["query"], Query), limits)
            case "part":
                return self._run_part(command, structure(command["query"], Query))
            case "render":
                return self._write(command, lambda part: self._render(command, part))
            case "import":
                return self._import(command)
            case "columns":
                with self._source(command, command["name"]) as source:
                    described = plain(engine.columns(source, command["name"], _options(command)))
                return bounded(described, limits.answer, "The list of the columns")
            case "rows":
                try:
                    return self._rows(command, limits, _copy(command))
                except (ProcessingError, OSError) as error:
                    if "copy" not in command or not may_be_of_copy(error):
                        raise
                    return self._rows(command, limits, None)
            case op:
                raise ValueError(op)

    def _rows(self, command: Mapping[str, Any], limits: AnswerLimits, copy: Path | None) -> Any:
        offset, limit = command["offset"], command["limit"]
        as_texts, view = bool(command.get("texts")), structure(command.get("view", {}), View)
        with (
            self._source(command, command["name"]) as source,
            self._texts(command["source"], needed=as_texts or bool(view.find)) as texts,
        ):
            window = read_window(
                source,
                command["name"],
                offset,
                limit,
                _options(command),
                view=view,
                surveys=self._surveys,
                filters=self._filters,
                on_progress=self._check_stopped,
                limits=limits,
                as_texts=as_texts,
                texts=texts,
                copy=copy,
            )
        return bounded(plain(window), limits.answer, "The rows")

    def _render(self, command: Mapping[str, Any], part: Path) -> None:
        name = _name_of(command["source"])
        with self._source(command, name) as source, self._texts(command["source"], needed=True) as texts:
            render(source, part, command["format"], self._on_progress, name=name, texts=texts)

    def _run(self, command: Mapping[str, Any], query: Query, limits: AnswerLimits) -> Any:
        """Run a query; its texts and the file of rejects are published before the output, which refers to them."""
        rejects, texts = (companion(Path(command["part"]), purpose) for purpose in ("rejects", "texts"))
        rejects_file = rejects_name(_name_of(command["target"]))

        def run(part: Path) -> Any:
            outcome = self._run_on_copy(command, query, part, rejects, limits)
            if outcome is None:
                with (
                    self._source(command, query.filename) as source,
                    self._texts(command["source"], needed=bool(command.get("is_output"))) as beside,
                ):
                    outcome = engine.run(
                        query,
                        source,
                        part,
                        self._on_progress,
                        rejects=rejects,
                        limits=limits,
                        known=self._known,
                        texts=beside,
                    )
            if outcome.issues is not None and rejects.exists():
                outcome = attrs.evolve(outcome, issues=attrs.evolve(outcome.issues, rejects=rejects_file))
            value = bounded(plain(outcome), limits.answer, "The description of the result")
            self._check_room(part)
            if outcome.texts_size is not None:
                self._publish(texts, command["target"], texts_name)
            if rejects.exists():
                self._publish(rejects, command["target"], rejects_name)
            return value

        try:
            return self._write(command, run)
        finally:
            rejects.unlink(missing_ok=True)
            texts.unlink(missing_ok=True)

    def _run_on_copy(
        self, command: Mapping[str, Any], query: Query, part: Path, rejects: Path, limits: AnswerLimits
    ) -> engine.Outcome | None:
        """Run a query on the copy of its file, or put its parts together; None if the file must be read."""
        with self._copy(command) as place:
            if place is None:
                return None
            compute = None
            if "parts" in command:  # in an object store, polars knows them without what we add to an address
                parts = [path.partition("?")[0] if is_remote(path) else path for path in command["parts"]]
                compute = merging(query, parts, place.options)
            return engine.run_on_copy(
                query, place, part, self._on_progress, rejects=rejects, limits=limits, compute=compute
            )

    def _run_part(self, command: Mapping[str, Any], query: Query) -> bool:
        """Do a part of a query; return whether that is possible."""

        def run(part: Path) -> None:
            with self._copy(command) as place:
                assert place is not None
                number, count = command["number"], command["count"]
                run_part(query, place, part, self._on_progress, number=number, count=count)

        try:
            self._write(command, run, lasting=False)
        except IndivisibleError:
            return False
        return True

    def _import(self, command: Mapping[str, Any]) -> Any:
        """Make the columnar copy of a file in a temporary folder, and rename it when it is complete."""
        part = self._part = companion(Path(command["part"]), "copy")
        try:
            _check_disk(part.parent)
            part.mkdir()
            with self._source(command, command["name"]) as source:
                copied = copy_table(source, command["name"], part, self._on_progress, _options(command))
            if copied is not None:
                if "objects" in command:
                    self._send_folder(part, command["objects"])
                durable.publish_folder(part, Path(command["target"]))
        finally:
            self._part = None
            remove_path(part)
        return plain(copied)

    def _send_folder(self, folder: Path, objects: str) -> None:
        """Send the files of a folder to the object store, too."""
        assert self._scratch is not None
        for path in folder.iterdir():
            self._check()
            self._scratch.put(path, f"{objects}/{path.name}", keep=True)

    def _write(
        self, command: Mapping[str, Any], write: Callable[[Path], Any], *, lasting: bool = True
    ) -> Any:
        """Write the target under its temporary name, and rename it when it is complete.

        If it is ``lasting``, it survives a loss of power before the server tells anybody of it, and never has its name
        without its bytes.
        """
        part = self._part = Path(command["part"])
        self._room = command.get("room", math.inf)
        try:
            _check_disk(part.parent)
            value = write(part)
            self._check_room(part)
            if lasting or is_remote(command["target"]):
                self._publish(part, command["target"])
            else:
                part.rename(command["target"])
        finally:
            self._part = None
            part.unlink(missing_ok=True)
        return value

    def _publish(self, part: Path, target: str, naming: Callable[[str], str] = str) -> None:
        """Give a complete file the name of the target, or that of a file which belongs to it."""
        if is_remote(target):
            assert self._scratch is not None
            self._scratch.put(part, str(Address.parse(target).beside(naming)))
        else:
            durable.publish(part, Path(naming(target)))

    @contextlib.contextmanager
    def _source(self, command: Mapping[str, Any], name: str) -> Iterator[Path]:
        """Open the file of a command for the duration of the context."""
        if not is_remote(command["source"]):
            with opened(Path(command["source"]), name, command.get("identity")) as source:
                yield source
            return
        assert self._scratch is not None
        with (
            self._scratch.fetched(command["source"], name, self._check) as copy,
            opened(copy, name) as source,
        ):
            yield source

    @contextlib.contextmanager
    def _copy(self, command: Mapping[str, Any]) -> Iterator[Place | None]:
        """Return where the columnar copy of a command's file is; None if there is none."""
        copy = command.get("copy")
        if copy is None or not is_remote(copy):
            yield None if copy is None else Place.in_folder(Path(copy))
            return
        assert self._scratch is not None
        with (
            self._scratch.fetched_if_any(f"{copy}/{ABOUT}", self._check) as about,
            self._scratch.fetched_if_any(f"{copy}/{ISSUES}", self._check) as issues,
        ):
            yield Place(about, issues, f"{copy}/{ROWS}", self._scratch.scan_options(copy))

    @contextlib.contextmanager
    def _texts(self, source: str, *, needed: bool) -> Iterator[Path | None]:
        """Return the path of a stored output's texts, which may not exist; None if they are not needed."""
        if not needed:
            yield None
        elif is_remote(source):
            assert self._scratch is not None
            texts = str(Address.parse(source).beside(texts_name))
            with self._scratch.fetched_if_any(texts, self._check) as copy:
                yield copy
        else:
            yield Path(texts_name(source))

    def _check_room(self, part: Path) -> None:
        """Check that what was written until now fits the caller's quota."""
        if self._room == math.inf:
            return
        paths = (part, companion(part, "rejects"), companion(part, "texts"))
        written = sum(path.stat().st_size for path in paths if path.exists())
        if written > self._room:
            raise ProcessingError(
                "storage_full",
                f"The output has {written:,} bytes or more, and {self._room:,} fit into what you may store. "
                "Delete files that you no longer need, or ask for less.",
            )

    def _check_stopped(self, _: Progress) -> None:
        self._check()

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _on_progress(self, progress: Progress) -> None:
        self._check_stopped(progress)
        if self._part is not None:
            _check_disk(self._part.parent)
            self._check_room(self._part)
        event = {"event": "progress", **attrs.asdict(progress)}
        if progress.fraction == 1:
            self._last.append(event)
        else:
            self._send([event])


def _name_of(path: str) -> str:
    return Address.parse(path).name if is_remote(path) else Path(path).name


def _copy(command: Mapping[str, Any]) -> Path | None:
    return Path(command["copy"]) if "copy" in command else None


def _options(command: Mapping[str, Any]) -> Options | None:
    options = command.get("options")
    return None if options is None else structure(options, Options)


def _check_disk(folder: Path) -> None:
    disk = os.statvfs(folder)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < min(
        DISK_RESERVE, disk.f_blocks * disk.f_frsize // DISK_SHARE
    ):
        raise OSError(errno.ENOSPC, "Only the reserve is left on the disk")


def _failed_by(error: BaseException) -> dict[str, Any]:
    """The event for an exception."""
    if isinstance(error, ObjectStoreError):
        return _failed(disk_error(error), transient=True, cause=error)
    number = _errno_of(error)
    if number is not None:
        # A file that was removed in the meantime is not an error of the server, so it is not logged.
        cause = None if number == errno.ENOENT else error
        return _failed(_system_error(number), transient=number in TRANSIENT, cause=cause)
    if isinstance(error, CreemsonError):
        return _failed(error)
    return _failed(internal_error(), cause=error)


def _failed(
    error: CreemsonError, *, transient: bool = False, cause: BaseException | None = None
) -> dict[str, Any]:
    # What an operator must mend is told in words; where in the code it was noticed does not help.
    for_operator = isinstance(cause, ObjectStoreError) or error.reason == "storage_full"
    return {
        "event": "failed",
        "reason": error.reason,
        "message": clipped(error.message),
        "details": [clipped(detail) for detail in error.details[:MAX_DETAILS]],
        "transient": transient,
        "cause": None if cause is None or not for_operator else clipped(str(cause)),
        "traceback": None
        if cause is None or for_operator
        else clipped("".join(traceback.format_exception(cause)), MAX_TRACEBACK),
    }


def _errno_of(error: BaseException) -> int | None:
    """The ``errno`` that caused an error, if there is one: polars may report a full disk as its own error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        # Creemson's own messages may quote anything.
        match = None if isinstance(cause, CreemsonError) else OS_ERROR.search(str(cause))
        if match:
            return int(match[1])
        cause = cause.__cause__
    return None


def _system_error(number: int) -> ProcessingError:
    """The error for clients if the system returned an ``errno``."""
    if number == errno.ENOENT:
        return ProcessingError("file_not_found", "The file was removed while the job was running.")
    if number == errno.EBUSY:  # for disk_error(), it means a locked catalog, which workers do not use
        number = errno.EIO
    return disk_error(OSError(number, os.strerror(number)))


def _protocol_stream() -> BinaryIO:
    """Reserve standard output for events; the output of libraries goes to standard error."""
    stream = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return stream


def _limit_memory(limit: int) -> None:
    """Make allocations beyond ``limit`` bytes of data fail; Rust then aborts the process."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _listen(worker: Worker, lines: Iterable[bytes]) -> NoReturn:
    """Receive commands, and exit when the input ends or is invalid."""
    try:
        worker.receive(lines)
    except Exception:  # for example an incomplete line
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _hold(lifeline: int) -> None:
    """Let the kernel kill this process as soon as its server has ended.

    The server has the other end of this pipe and never writes to it. When it is closed, the kernel sends a signal to
    the owner of the pipe (fcntl(2), O_ASYNC); with F_SETSIG, one that cannot be ignored, blocked or handled. This needs
    no thread and no GIL: a worker in a regular expression that backtracks ended after 4 ms.

    Not PR_SET_PDEATHSIG: it fires when the *thread* of the server that has started the worker ends.

    Args:
        lifeline: file descriptor of our end.
    """
    # The lowest free number, as if it had been opened here.
    lifeline, inherited = os.dup(lifeline), lifeline
    os.close(inherited)
    with contextlib.suppress(
        OSError
    ):  # a sandbox such as gVisor may lack a call: then only the thread watches
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # the server had ended before
        os._exit(0)


def main() -> None:
    """Run a worker process on standard input and output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-bytes", type=int, default=0)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--lifeline", type=int)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--scratch-bytes", type=int)
    arguments = parser.parse_args()
    if arguments.lifeline is not None:
        _hold(arguments.lifeline)
    # Ctrl-C in a terminal also reaches the workers, but only the server ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(arguments.nice)
    if arguments.data_bytes:
        _limit_memory(arguments.data_bytes)
    gc.freeze()  # what is imported stays: no collection looks at its 50,000 objects again
    stream = _protocol_stream()
    lock = threading.Lock()

    def send(events: Iterable[Mapping[str, Any]]) -> None:
        lines = memoryview(
            b"".join(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events)
        )
        with lock:  # polars' threads and the main thread may report progress at the same time
            while lines:  # an unbuffered write may write only a part
                lines = lines[stream.write(lines) :]

    scratch = None if arguments.scratch is None else Scratch(arguments.scratch, arguments.scratch_bytes)
    worker = Worker(send, scratch)
    threading.Thread(target=_listen, args=(worker, sys.stdin.buffer), daemon=True).start()
    try:
        worker.run()
    except BrokenPipeError:  # the server has ended
        os._exit(0)


if __name__ == "__main__":
    main()
