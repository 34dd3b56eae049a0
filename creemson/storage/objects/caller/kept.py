"""The versions that accepted jobs still need, and the rows that go.

A file that is replaced or removed becomes ``kept``, and goes when no job holds its version; then its objects go, too.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence

from creemson.catalog.objects import Kind, ObjectRow, Objects
from creemson.errors import CreemsonError
from creemson.model.filenames import composed
from creemson.storage.objects.bookkeeping import Garbage, Holds, Ledger
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.caller.rows import counted_key, found
from creemson.storage.store import Found, file_changed

__all__ = ["Kept"]


class Kept:
    """What is kept of one caller's files; implements :class:`creemson.storage.store.HeldVersions`.

    Args:
        bucket: the object store.
        rows: the files that there are.
        caller: name of the caller.
        holds: the versions that jobs hold.
        garbage: removes the objects of rows that have gone.
        ledger: counts the bytes that are kept.
        look_up: finds the file that has a name now, see :meth:`creemson.storage.store.Store.look_up`.
        named: returns its row, if there is one; this is no use of the file.
    """

    def __init__(
        self,
        bucket: ObjectBucket,
        rows: Objects,
        *,
        caller: str,
        holds: Holds,
        garbage: Garbage,
        ledger: Ledger,
        look_up: Callable[[str], Found],
        named: Callable[[str], ObjectRow | None],
    ) -> None:
        self._bucket = bucket
        self._rows = rows
        self._caller = caller
        self._holds = holds
        self._garbage = garbage
        self._ledger = ledger
        self._look_up = look_up
        self._named = named

    def find(self, name: str, version: str) -> Found:
        """Find a version of a file that was looked up earlier, also if the file was replaced or removed since."""
        with contextlib.suppress(CreemsonError):
            now = self._look_up(name)
            if now.version == version:
                return now
        kept = self._holds.kept(version)
        if kept is None:
            raise file_changed(name)
        return found(self._bucket, kept)

    def hold(self, name: str, version: str) -> bool:
        """Keep the bytes of a version until :meth:`release`, even if the file is replaced or removed."""
        return self._holds.hold(version, lambda: self._has_version(name, version))

    def _has_version(self, name: str, version: str) -> bool:
        row = self._named(composed(name))
        return row is not None and row.version == version

    def release(self, version: str) -> bool:
        """End :meth:`hold`; return whether :meth:`drop` must be called."""
        return self._holds.release(version)

    def drop(self, version: str) -> None:
        """Remove kept bytes that nobody holds."""
        if not self._garbage.knows_holders:
            return
        self.forgotten(self._holds.remove_unheld(version))

    def drop_unheld(self) -> None:
        """Remove what an earlier server has kept; call this after the jobs have held what they need."""
        self._garbage.knows_holders = True
        self.drop_kept()

    def drop_kept(self) -> None:
        """Remove all kept bytes that nobody holds."""
        for version in {row.version for row in self._rows.rows(self._caller, "kept")}:
            self.drop(version)

    def recognise(self, name: str, version: str) -> bool:
        """Return False: an object has its version from its row."""
        del name, version
        return False

    def present(self) -> set[str]:
        """Return the versions of the uploaded files, and of bytes that are kept."""
        kinds: tuple[Kind, ...] = ("upload", "kept")
        return {row.version for kind in kinds for row in self._rows.rows(self._caller, kind)}

    # --- rows that go --------------------------------------------------------------------------------

    def is_held(self, version: str) -> bool:
        """Return whether somebody needs a version."""
        return self._holds.is_held(version)

    def unname(self, rows: Sequence[ObjectRow]) -> None:
        """Let files lose their names; what nobody holds of them goes."""
        if rows:
            self._rows.keep([row.key for row in rows])
            self.lost_name(rows)

    def lost_name(self, rows: Iterable[ObjectRow]) -> None:
        """Count files anew that have become ``kept``, and remove those that nobody holds."""
        rows = list(rows)
        self._ledger.settle(*(counted_key(row) for row in rows), *(row.key for row in rows))
        for version in {row.version for row in rows}:
            with contextlib.suppress(OSError):  # the next start removes them
                self.drop(version)

    def forget(self, rows: Sequence[ObjectRow]) -> None:
        """Remove rows, and then their objects."""
        if rows:
            self._rows.forget([row.key for row in rows])
            self.forgotten(rows)

    def forgotten(self, rows: Sequence[ObjectRow]) -> None:
        """Count files without the rows that were removed, and remove their objects."""
        if rows:
            self._ledger.settle(*(counted_key(row) for row in rows), *(row.key for row in rows))
            self._garbage.remove(rows)
