"""Divides a command among several workers: they do its parts at the same time, then one puts the parts together.

To the job queue, that is one attempt: if a part fails, the others are stopped, and the attempt fails as it would have
failed on one worker. Whatever a worker cannot do as a part is done by one worker, in one step.
"""

from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import trio

from creemson.errors import CreemsonError
from creemson.executors import commands
from creemson.executors.commands import WorkerCommand
from creemson.executors.dask import attempts
from creemson.executors.dask.placement import size_of
from creemson.executors.executor import Figures, OnProgress, TransientFault
from creemson.storage.names import is_remote

__all__ = ["PartsProgress", "call_divided", "part_count"]

PARTS_SHARE = 0.9
"""The share of the whole work that the parts have; the rest is putting them together."""
FINAL = frozenset({"worker_died", "out_of_memory"})
"""Errors with which an attempt fails; after others, one worker does the work, and tells the error of the whole."""


class Call(Protocol):
    """Runs a command on a worker of the cluster."""

    def __call__(self, command: WorkerCommand, on_progress: OnProgress | None) -> Awaitable[Any]:
        """See :meth:`creemson.executors.executor.Executor.call`."""


def part_count(command: WorkerCommand, *, free: int, part_bytes: int) -> int:
    """Return into how many parts a command is divided; 1 if one worker does it.

    Args:
        command: the command.
        free: number of workers that have nothing to do.
        part_bytes: minimum bytes of the file for each part; 0: no command is divided.
    """
    if not part_bytes or not command.get("may_be_divided"):
        return 1
    if is_remote(command["target"]) and not is_remote(command["copy"]):
        return 1  # with an object store, workers need not see the folder of the server
    return max(1, min(free, size_of(command) // part_bytes))


@attrs.define
class PartsProgress:
    """Adds the progress of parts of equal size up. Without I/O.

    Attributes:
        count: number of parts.
    """

    count: int
    _parts: dict[int, Figures] = attrs.field(factory=dict)

    def of_part(self, number: int, figures: Figures) -> Figures:
        """Return the progress of all parts after a report of one."""
        self._parts[number] = figures
        found = self._parts.values()
        return {
            **figures,
            "phase": "reading",
            "bytes_read": sum(part["bytes_read"] for part in found) // self.count,
            "rows": sum(part["rows"] for part in found),
            "fraction": round(PARTS_SHARE * sum(part["fraction"] for part in found) / self.count, 4),
        }

    def of_merge(self, figures: Figures) -> Figures:
        """Return the progress after a report of the worker that puts the parts together."""
        fraction = figures["fraction"]
        if fraction < 1:
            fraction = round(PARTS_SHARE + (1 - PARTS_SHARE) * fraction, 4)
        return {**figures, "fraction": fraction}


async def call_divided(call: Call, command: WorkerCommand, count: int, on_progress: OnProgress | None) -> Any:
    """Run a command in parts.

    Args:
        call: runs a command on a worker.
        command: the command.
        count: number of parts.
        on_progress: called with the progress of all parts together.

    Returns:
        The value of the command; None if one worker must do it.

    Raises:
        CreemsonError: one of :data:`FINAL`.
        TransientFault: reported by a worker.
        OSError: the folder for the parts, or that of an attempt, cannot be made.
    """
    progress = PartsProgress(count)

    def report_part(number: int, figures: Figures) -> None:
        if on_progress is not None:
            on_progress(progress.of_part(number, figures))

    def report_merge(figures: Figures) -> None:
        if on_progress is not None:
            on_progress(progress.of_merge(figures))

    folder: Path | None = None
    try:
        if not is_remote(command["target"]):
            folder = await trio.to_thread.run_sync(attempts.begin, Path(command["target"]))
        targets = [_target(command["target"], folder, number) for number in range(count)]
        parts = [
            commands.part(command, number=number, count=count, target=target)
            for number, target in enumerate(targets)
        ]
        reports = [partial(report_part, number) for number in range(count)]
        if not await _call_all(call, list(zip(parts, reports, strict=True))):
            return None
        return await call(commands.merge(command, targets), report_merge)
    except CreemsonError as error:
        if error.reason in FINAL:
            raise
        return None
    finally:
        if folder is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(attempts.revoke, folder)


async def _call_all(call: Call, parts: list[tuple[WorkerCommand, OnProgress]]) -> bool:
    """Run all parts at once; return whether all of them were possible. If one fails, the others are stopped.

    Raises:
        CreemsonError: that of the first part that failed.
        TransientFault: the same.
        OSError: the same.
    """
    failure: CreemsonError | TransientFault | OSError | None = None
    done = 0

    async def run(command: WorkerCommand, on_progress: OnProgress) -> None:
        nonlocal failure, done
        try:
            if await call(command, on_progress):
                done += 1
                return
        except (CreemsonError, TransientFault, OSError) as error:
            failure = failure or error
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for command, on_progress in parts:
            nursery.start_soon(run, command, on_progress)
    if failure is not None:
        raise failure
    return done == len(parts)


def _target(target: str, folder: Path | None, number: int) -> str:
    """Return the path to which a part is written; in an object store, beside the target."""
    if folder is not None:
        return str(folder / f"{number}.arrow")
    place, _, query = target.partition("?")
    return f"{place}.part{number}?{query}"
