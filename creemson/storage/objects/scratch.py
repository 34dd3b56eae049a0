"""The scratch folder of a machine with workers: copies of files in the object store, while and after they are read.

Readers need files, so a worker fetches a file before it reads it, and writes an output here before it is sent. Several
worker processes share the folder. A copy is named by the key of its file, which belongs to its bytes only, so it is
right as long as it is there. Whoever reads a copy holds a shared lock of it (flock(2), which ends with the process).
The copy that was not used for the longest time, and that nobody reads, makes room for another one.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from creemson.errors import ObjectStoreError, ProcessingError
from creemson.storage.names import is_temporary, remove_path, temporary_name
from creemson.storage.objects.address import Address

if TYPE_CHECKING:
    from creemson.storage.objects.bucket import ObjectBucket

__all__ = ["Scratch"]

FREE_SHARE = 4
"""Without a setting, the folder takes at most 1/``FREE_SHARE`` of what would be free on the disk without it."""
RANGE_BYTES = 8 * 1024 * 1024
"""Bytes of one read from the object store."""
AT_ONCE = 4
"""Number of reads at once."""
FETCH = "fetch-"
"""Beginning of what distinguishes the temporary file of a process that fetches a copy."""
LOCK = "lock"
"""Name of the file whose lock a process holds while it makes room."""


class Scratch:
    """The folder, as one process uses it.

    Args:
        folder: the folder; it is created when it is needed.
        limit: maximum number of bytes; None: a share of the free disk.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        self._folder = folder
        self._limit = limit
        self._buckets: dict[str, ObjectBucket] = {}

    def prepare(self) -> None:
        """Create the folder, and remove what workers of an earlier server have left unfinished.

        Raises:
            OSError: the disk failed.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if is_temporary(path.name):
                remove_path(path)

    @contextlib.contextmanager
    def fetched(self, address: str, name: str, check: Callable[[], None]) -> Iterator[Path]:
        """Have a copy of a file on the disk for the duration of the context.

        Args:
            address: address of the file.
            name: the file's name in messages.
            check: called often; it raises an exception to stop.

        Yields:
            The path of the copy.

        Raises:
            ProcessingError: ``file_changed``: the file is gone; ``storage_full``: it does not fit the folder.
            ObjectStoreError: the object store failed.
            OSError: the disk failed.
        """
        place = Address.parse(address)
        path = self._folder / hashlib.sha256(address.encode()).hexdigest()[:32]
        copy = self._open(path)
        if copy is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Of several workers that need the file, one fetches it.
            with _locked(path.with_suffix(".lock")):
                copy = self._open(path)
                while copy is None:
                    self._fetch(place, path, name, check)
                    copy = self._open(path)
        try:
            yield path
        finally:
            os.close(copy)

    @contextlib.contextmanager
    def fetched_if_any(self, address: str, check: Callable[[], None]) -> Iterator[Path]:
        """Do the same for a file whose size is unknown, and that may not exist; then the path leads nowhere."""
        place = Address.parse(address)
        try:
            size = self._bucket(place).size(place.path)
        except FileNotFoundError:
            yield self._folder / "absent"
            return
        found = Address(place.bucket, place.path, place.name, size)
        with self.fetched(str(found), place.name, check) as path:
            yield path

    def scan_options(self, address: str) -> dict[str, str | int]:
        """Return what polars has to know to read objects itself, beside the environment."""
        return self._bucket(Address.parse(address)).scan_options()

    def put(self, part: Path, address: str, *, keep: bool = False) -> None:
        """Send a file to the object store, and remove it here unless ``keep`` is set.

        Raises:
            ObjectStoreError: the object store failed.
            OSError: the disk failed.
        """
        place = Address.parse(address)
        self._bucket(place).put_file(place.path, part)
        if not keep:
            part.unlink()

    def _bucket(self, place: Address) -> "ObjectBucket":
        from creemson.storage.objects.bucket import ObjectBucket  # noqa: PLC0415 - it needs the extra `s3`

        if place.bucket not in self._buckets:
            self._buckets[place.bucket] = ObjectBucket(f"s3://{place.bucket}")
        return self._buckets[place.bucket]

    def _open(self, path: Path) -> int | None:
        """Open a copy and lock it, so that it stays; None if there is none. Counts as a use."""
        while True:
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            fcntl.flock(file, fcntl.LOCK_SH)
            status = os.fstat(file)
            if status.st_nlink:  # otherwise it was removed before it was locked
                # The time of access only: that of modification tells readers that a file was changed.
                os.utime(file, ns=(time.time_ns(), status.st_mtime_ns))
                return file
            os.close(file)

    def _fetch(self, place: Address, path: Path, name: str, check: Callable[[], None]) -> None:
        assert place.size is not None
        part = self._folder / temporary_name(path.name, f"{FETCH}{os.getpid()}")
        bucket = self._bucket(place)
        with _locked(self._folder / LOCK):
            part.unlink(missing_ok=True)
            self._make_room(place.size, name)
            file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            fcntl.flock(file, fcntl.LOCK_SH)
            os.truncate(file, place.size)  # from now on, it counts
        try:

            def fetch(key: str, start: int, size: int, offset: int) -> None:
                data = bucket.get(key, start, size)
                if len(data) != size:
                    raise ObjectStoreError(f"The object {key!r} has another size than was stored")
                os.pwrite(file, data, offset)

            with ThreadPoolExecutor(AT_ONCE) as pool:
                waiting = [pool.submit(fetch, *piece) for piece in _ranges(place)]
                try:
                    for future in waiting:
                        future.result()
                        check()
                finally:
                    for future in waiting:
                        future.cancel()
            part.rename(path)
        except FileNotFoundError:
            raise ProcessingError(
                "file_changed", f"The file {name!r} was removed while it was being read. Ask again."
            ) from None
        finally:
            os.close(file)
            part.unlink(missing_ok=True)

    def _make_room(self, size: int, name: str) -> None:
        """Remove copies until another file fits."""
        copies = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                copies.append((status.st_atime_ns, max(status.st_size, status.st_blocks * 512), path))
        total = sum(taken for _, taken, _ in copies)
        limit = self._limit
        if limit is None:
            limit = (shutil.disk_usage(self._folder).free + total) // FREE_SHARE
        for _, taken, path in sorted(copies):
            if total + size <= limit:
                return
            if _is_copy(path.name) and _remove_unused(path):
                total -= taken
        if total + size > limit:
            raise ProcessingError(
                "storage_full" if size > limit else "busy",
                f"The file {name!r} has {size:,} bytes, and the scratch folder of the workers has room for "
                f"{max(0, limit - total):,} of {limit:,}. Try again later, or ask the operator for more "
                "(storage.scratch_bytes).",
            )


def _is_copy(name: str) -> bool:
    """Return whether a file is a copy, perhaps one that a killed worker has not completed."""
    return f".{FETCH}" in name if is_temporary(name) else not name.endswith(LOCK)


def _remove_unused(path: Path) -> bool:
    """Remove a copy that nobody reads; return whether it is gone."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            path.with_suffix(".lock").unlink(missing_ok=True)
        except BlockingIOError:
            return False
        finally:
            os.close(file)
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file; it ends with the process."""
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _ranges(place: Address) -> Iterator[tuple[str, int, int, int]]:
    """Yield the ranges to read: name of an object, first byte in it, number of bytes, first byte in the file."""
    offset = 0
    for key, size in place.objects():
        for start in range(0, size, RANGE_BYTES):
            yield key, start, min(RANGE_BYTES, size - start), offset + start
        offset += size
