"""The columnar copies of files as objects, from which workers on other machines read what they need."""

from collections.abc import Iterable

from creemson.storage.objects.bookkeeping import Garbage
from creemson.storage.objects.bucket import ObjectBucket

__all__ = ["ObjectTables"]

_ALL = "tables"
"""The beginning of the names of their objects."""


class ObjectTables:
    """Implements :class:`creemson.storage.tables.tables.SharedTables`.

    The names of copies are digests of what they are copies of, so an object has the same content each time it is
    written. No row of the catalog names the objects: they are kept as if somebody were writing them.

    Args:
        bucket: the object store.
        garbage: removes what is not kept.
    """

    def __init__(self, bucket: ObjectBucket, garbage: Garbage) -> None:
        self._bucket = bucket
        self._garbage = garbage
        garbage.begin_writing(_ALL)  # until it is known which are kept

    def open(self, names: Iterable[str]) -> None:
        """Keep the objects of these copies, and let the next sweep remove all others."""
        for name in names:
            self.keep(name)
        self._garbage.end_writing(_ALL, discard=True)

    def address(self, name: str) -> str:
        """Return the address under which the objects of a copy are, or will be."""
        return f"s3://{self._bucket.name}/{self._bucket.prefix}{_folder(name)}"

    def keep(self, name: str) -> None:
        """Keep the objects of a copy. Idempotent."""
        self._garbage.begin_writing(_folder(name))

    def drop(self, name: str) -> None:
        """Let the next sweep remove the objects of a copy."""
        self._garbage.end_writing(_folder(name), discard=True)


def _folder(name: str) -> str:
    return f"{_ALL}/{name}"
