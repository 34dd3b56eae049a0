"""A server of ours in a process of its own, and a look at its memory."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["Peak", "serving"]


@contextmanager
def serving(data_dir: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Run a server.

    Yields:
        Its port and its process.
    """
    command = [sys.executable, "-m", "creemson", "serve", "--port", "0", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split(":")[2].split("/")[0]
        try:
            yield int(port), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


class Peak:
    """Looks at a process's memory all the time.

    Args:
        process: to be looked at.
    """

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.first = self._most = process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)

    def stop(self) -> int:
        """The most bytes that were resident."""
        self._ended.set()
        self._thread.join()
        return self._most
