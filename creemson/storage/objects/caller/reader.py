"""Reads a file in the object store by ranges, a few megabytes ahead of its reader."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Self

from creemson.catalog.objects import ObjectRow
from creemson.errors import ObjectStoreError
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.part import objects_of

__all__ = ["ObjectStream"]

WINDOW_BYTES = 2 * 1024 * 1024
"""Bytes of one read. One more is read ahead, so a download has twice as many in memory."""


class ObjectStream:
    """An open file; see :class:`creemson.storage.store.Stream`. One call at a time.

    Args:
        bucket: the object store.
        row: the file.
        threads: reads ahead.
        on_close: called once.
    """

    def __init__(
        self, bucket: ObjectBucket, row: ObjectRow, threads: Executor, on_close: Callable[[], None]
    ) -> None:
        self._bucket = bucket
        self._size = row.size
        self._piece = row.piece or max(row.size, 1)
        self._objects = [key for key, _ in objects_of(row)]
        self._threads = threads
        self._on_close = on_close
        self._closed = False
        self._start, self._window = 0, memoryview(b"")
        self._ahead: tuple[int, Future[memoryview]] | None = None  # from which byte on, and the bytes

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``offset`` on; none at the end of the file. May wait.

        Raises:
            ObjectStoreError: they could not be read.
        """
        if offset >= self._size:
            return b""
        if not self._covers(offset):
            ahead, self._ahead = self._ahead, None
            if ahead is not None and ahead[0] == offset:
                self._use(offset, ahead[1].result())
            else:
                self._use(offset, self._fetch(offset))
        return bytes(self._window[offset - self._start :][:size])

    def ready(self, offset: int, room: memoryview) -> int:
        """Copy bytes into ``room`` without waiting; return their number, 0 if they are not there yet."""
        if not self._covers(offset):
            ahead = self._ahead
            if ahead is None or ahead[0] != offset or not ahead[1].done() or ahead[1].exception():
                return 0
            self._ahead = None
            self._use(offset, ahead[1].result())
        data = self._window[offset - self._start :][: len(room)]
        room[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file; idempotent."""
        if not self._closed:
            self._closed = True
            if self._ahead is not None:
                self._ahead[1].cancel()
            self._on_close()

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _covers(self, offset: int) -> bool:
        return self._start <= offset < self._start + len(self._window)

    def _use(self, offset: int, data: memoryview) -> None:
        """Make bytes the window, and begin to read those behind it."""
        self._start, self._window = offset, data
        following = offset + len(data)
        if following < self._size and not self._closed:
            self._ahead = following, self._threads.submit(self._fetch, following)

    def _fetch(self, offset: int) -> memoryview:
        """Read the bytes from ``offset`` on, not beyond the end of an object."""
        number, start = divmod(offset, self._piece)
        end = min(start + WINDOW_BYTES, self._piece, self._size - number * self._piece)
        try:
            data = self._bucket.get(self._objects[number], start, end - start)
        except FileNotFoundError:
            raise ObjectStoreError(
                f"The object store {self._bucket.url} has lost {self._objects[number]!r}"
            ) from None
        if len(data) != end - start:
            raise ObjectStoreError(
                f"The object store {self._bucket.url} has another {self._objects[number]!r} than was stored"
            )
        return data
