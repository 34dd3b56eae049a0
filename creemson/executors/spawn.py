"""Starts a worker process. This module imports little, so that a worker can start before anything else is imported."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from creemson.settings.load import PREFIX

__all__ = ["ScratchFolder", "Spawned", "spawn"]

DATA_FACTOR, DATA_EXTRA = 4, 2 << 30
"""RLIMIT_DATA is the memory limit times DATA_FACTOR plus DATA_EXTRA bytes. It counts reserved memory: a worker that
sorted 766 MB of CSV used at most 0.7 GB but reserved 2.5 to 3.1 GB, and each thread adds its stack. The executor checks
the used memory from time to time; RLIMIT_DATA stops a growth that is too fast for these checks."""
ALLOCATOR = "_RJEM_MALLOC_CONF", "muzzy_decay_ms:0"
"""Environment variable and option that make polars' allocator return memory at once. Otherwise freed memory counts as
used for a second, or as long as the worker is idle (half of what a worker seemed to use after a sort)."""


class ScratchFolder(NamedTuple):
    """Where the workers of a machine keep copies of files in an object store.

    Attributes:
        folder: the folder, which all of them share.
        limit: maximum number of bytes; None: a share of the free disk.
    """

    folder: Path
    limit: int | None

    def arguments(self) -> list[str]:
        """Return the arguments of a worker process."""
        limit = [] if self.limit is None else [f"--scratch-bytes={self.limit}"]
        return [f"--scratch={self.folder}", *limit]


class Spawned(NamedTuple):
    """A process that has just been started, and our ends of the pipes to it, as file descriptors.

    Attributes:
        process: the process.
        stdin: where to write.
        stdout, stderr: where to read.
        lifeline: the end of a pipe that only this process holds, and on which nothing is written: the kernel kills the
            worker when it is closed, at the latest with the end of this process.
    """

    process: "subprocess.Popen[bytes]"
    stdin: int
    stdout: int
    stderr: int
    lifeline: int

    def discard(self) -> None:
        """End a process that nobody has taken over."""
        for number in (self.stdin, self.stdout, self.stderr, self.lifeline):
            os.close(number)
        self.process.kill()
        self.process.wait()


def spawn(*, memory_bytes: int, nice: int, scratch: ScratchFolder | None = None) -> Spawned:
    """Start a worker process; it is ready after its first event.

    Args:
        memory_bytes: memory limit; 0 disables it.
        nice: niceness.
        scratch: where it keeps copies of files in an object store; None: there is no object store.

    Raises:
        OSError: the process cannot be started.
    """
    data_bytes = memory_bytes * DATA_FACTOR + DATA_EXTRA if memory_bytes else 0
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:

        def pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
            read, write = os.pipe()
            reader.callback(os.close, read)
            writer.callback(os.close, write)
            return read, write

        their_stdin, stdin = pipe(theirs, ours)
        stdout, their_stdout = pipe(ours, theirs)
        stderr, their_stderr = pipe(ours, theirs)
        their_lifeline, lifeline = pipe(theirs, ours)
        process = subprocess.Popen(  # noqa: S603 - no text from outside
            # -P: modules are not searched in the folder in which the server was started.
            [
                sys.executable,
                "-P",
                # The encoding of file names, which must be the server's.
                "-X",
                f"utf8={sys.flags.utf8_mode}",
                "-m",
                "creemson.engine.worker",
                f"--data-bytes={data_bytes}",
                f"--nice={nice}",
                f"--lifeline={their_lifeline}",
                *(() if scratch is None else scratch.arguments()),
            ],
            stdin=their_stdin,
            stdout=their_stdout,
            stderr=their_stderr,
            pass_fds=(their_lifeline,),
            env=_environment(),
            # Ctrl-C goes to the process group of the server; workers have their own groups and do not get it.
            process_group=0,
        )
        ours.pop_all()  # they stay open
        return Spawned(process, stdin, stdout, stderr, lifeline)


def _environment() -> Mapping[str, str]:
    """Return the environment of workers, without the server's secrets: workers read files from strangers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    name, option = ALLOCATOR  # the variable may already have options; of two equal ones, the last one counts
    kept[name] = f"{kept[name]},{option}" if kept.get(name) else option
    return kept
