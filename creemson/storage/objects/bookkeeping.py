"""What the stores must know beside the rows of files: what is in use, what may go, and how much is stored.

One server knows that in its memory (:mod:`creemson.storage.objects.one`), several by the catalog
(:mod:`creemson.storage.objects.several`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from creemson.catalog.objects import ObjectRow

__all__ = ["Bookkeeping", "Garbage", "Holds", "Ledger", "PutPiece"]


class Garbage(Protocol):
    """Removes objects that nobody needs. May be used by any thread.

    Attributes:
        owner: id of the catalog; until it is set, nothing is removed for want of a row.
        knows_holders: whether it is known which versions unfinished jobs need; until then, nothing kept is removed.
    """

    owner: str
    knows_holders: bool

    @property
    def grace(self) -> float:
        """Seconds by which other servers may know late that a file was used."""

    def open(self) -> None:
        """Begin to use the catalog."""

    def close(self) -> None:
        """End it."""

    def renew(self) -> None:
        """Tell other servers what is in use; call it every few seconds."""

    def remove(self, rows: Iterable[ObjectRow]) -> None:
        """Remove the objects of files without a row, as soon as no download reads them."""

    def remove_objects(self, key: str, objects: Collection[str]) -> None:
        """Remove objects of a file that it does not need any more."""

    def begin_writing(self, key: str) -> None:
        """Note that objects whose names begin with ``key`` and a slash are being written, so they get a row later.

        Does not wait.
        """

    def end_writing(self, key: str, *, discard: bool) -> None:
        """End :meth:`begin_writing`; with ``discard``, the next sweep removes what was written. Does not wait."""

    def store_of(self, key: str) -> str:
        """Return which store has begun to write under a key, see :class:`creemson.catalog.objects.Guard`."""

    def written(self) -> Collection[str]:
        """Return the beginnings of keys under which any server writes."""

    def begin_reading(self, key: str) -> Callable[[], None]:
        """Keep the objects of a file until the function is called that this returns. Does not wait."""

    def soon(self, work: Callable[[], None]) -> None:
        """Let ``work`` be done soon in a thread, if other servers wait for that. Does not wait."""

    def sweep(self, now: float) -> list[str]:
        """Remove what was left: by failed attempts since the last sweep; at times, whatever no row names.

        Args:
            now: the time in seconds since 1970.

        Returns:
            The names of the objects.

        Raises:
            OSError: the object store or the catalog failed; the next sweep tries again.
        """


class Holds(Protocol):
    """The versions of one caller that unfinished jobs need. May be used by any thread."""

    def hold(self, version: str, is_there: Callable[[], bool]) -> bool:
        """Keep the bytes of a version.

        Args:
            version: the version.
            is_there: returns whether a file has it now.

        Returns:
            Whether the bytes can be found; if not, nothing is held.
        """

    def release(self, version: str) -> bool:
        """End :meth:`hold`; return whether :meth:`remove_unheld` may have something to do."""

    def is_held(self, version: str) -> bool:
        """Return whether somebody needs a version."""

    def kept(self, version: str) -> ObjectRow | None:
        """Return a row with the kept bytes of a version, if there is one that stays."""

    def remove_unheld(self, version: str) -> Sequence[ObjectRow]:
        """Delete the kept rows of a version that nobody needs, and return them."""


class Ledger(Protocol):
    """Counts the bytes of one caller; :class:`creemson.storage.quota.Ledger` describes the methods."""

    @property
    def counts(self) -> bool:
        """Whether there is a limit."""

    @property
    def scans(self) -> bool:
        """Whether the count must be corrected at times."""

    @property
    def limit_of_rows(self) -> int:
        """Number of bytes that the recording of a row checks, see :class:`creemson.catalog.objects.Guard`."""

    @property
    def left(self) -> int | None:
        """The number of bytes that still fit; None if there is no limit."""

    def claim(
        self, key: str, size: int, *, instead_of: str | None = None, replaces: str | None = None
    ) -> None:
        """Count bytes that will be written under a key."""

    def check(self, more: int = 1) -> None:
        """Check that ``more`` bytes fit."""

    def release(self, key: str) -> None:
        """End a claim whose file is gone or was never written."""

    def publish(self, claimed: str, key: str) -> None:
        """Count a file that has got its name."""

    def settle(self, *keys: str) -> None:
        """Count files as they are, after they were removed or replaced."""

    def admit(self, *keys: str) -> None:
        """Count files that somebody else has written, all or none."""

    def begin_scan(self) -> None:
        """Note from now on which keys change."""

    def end_scan(self, found: Mapping[str, int], *, claimed: Collection[str] = ()) -> None:
        """Correct the count."""


class PutPiece(Protocol):
    """Writes a piece of an upload."""

    def __call__(self, key: str, data: bytes | memoryview) -> None:
        """Write an object.

        Raises:
            PieceTakenError: somebody else has written it, with other bytes.
            ObjectStoreError: it could not be written.
        """


@attrs.frozen
class Bookkeeping:
    """All of it.

    Attributes:
        garbage: of all callers.
        holds: makes that of one caller, by name.
        ledger: makes that of one caller, by name, quota, and a function that returns the bytes of a key.
        put: writes the pieces of uploads.
        row_counts: returns the numbers of rows of a caller's files, by version, as far as other servers know them.
    """

    garbage: Garbage
    holds: Callable[[str], Holds]
    ledger: Callable[[str, int, Callable[[str], int]], Ledger]
    put: PutPiece
    row_counts: Callable[[str], Mapping[str, int]] = attrs.field(default=lambda _: {})
