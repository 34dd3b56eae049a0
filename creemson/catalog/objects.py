"""The rows of files that are in an object store, and the interface to them.

A folder shows which files exist; an object store is asked as little as possible. So each file, output and unfinished
upload in it has a row, and only what has a row exists. Bytes come first, then the row; the row goes first, then the
bytes. What a crash leaves is bytes without a row, which a sweep removes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import attrs

from creemson.catalog.shared.claims import Claim

__all__ = ["UNGUARDED", "Guard", "Kind", "ObjectRow", "Objects", "PartLostError"]

Kind: TypeAlias = Literal["part", "upload", "output", "kept"]
"""An unfinished upload; an uploaded file; an output, or what belongs to one; replaced bytes that a job still needs."""


@attrs.frozen(kw_only=True)
class ObjectRow:
    """A file in the object store.

    Attributes:
        key: what the names of its objects begin with; unique, never used again.
        caller: name of the caller who owns it.
        kind: what it is. A caller has at most one row of a name and of each kind, except ``kept``.
        name: name of the file.
        version: version of the content; of a part: who writes it now, another text for each upload that continues it.
        size: in bytes; of a part, as announced.
        piece: bytes of each of its objects but the last, which may be shorter; 0: it is one object.
        durable: bytes of a part that are in the store.
        tails: sizes of the objects that have the bytes of a part behind its last whole piece.
        sha256: digest: of a part, as announced; of a file, None as long as nobody has asked for it.
        fingerprint: what the client has given to recognise the content of a part.
        modified: time of the last write, in seconds since 1970.
        used: time of the last use, in seconds since 1970.
    """

    key: str
    caller: str
    kind: Kind
    name: str
    version: str
    size: int
    piece: int
    durable: int = 0
    tails: tuple[int, ...] = ()
    sha256: str | None = None
    fingerprint: str | None = None
    modified: float = 0.0
    used: float = 0.0


@attrs.frozen(kw_only=True)
class Guard:
    """What must still hold when rows are recorded. Only several servers need more than the first.

    Attributes:
        writer: the part becomes a file only if this one writes it; empty: it has no row.
        claim: whose job the rows are an output of.
        store: id of the store that has written the objects, see :mod:`creemson.catalog.shared.leases`; empty: whoever.
        quota: maximum number of bytes that the caller may have afterwards; 0: there is no limit.
    """

    writer: str = ""
    claim: Claim | None = None
    store: str = ""
    quota: int = 0


UNGUARDED = Guard()


class PartLostError(Exception):
    """Somebody else writes an unfinished upload, or it was removed; nothing was recorded."""


class Objects(Protocol):
    """The interface. Every method blocks, may be called from any thread, and raises OSError if the database fails.

    A method that writes returns only when the change survives a loss of power.
    """

    def owner(self, proposed: str) -> str:
        """Return the id of this catalog, by which an object store recognises it; the first call sets it."""

    def callers(self) -> Sequence[str]:
        """Return the callers who have rows."""

    def row(self, key: str) -> ObjectRow | None:
        """Return the row with a key."""

    def named(self, caller: str, name: str, *kinds: Kind) -> ObjectRow | None:
        """Return a caller's row of a name, of the first of these kinds that there is."""

    def has_upload(self, caller: str, names: Sequence[str]) -> bool:
        """Return whether an uploaded file of a caller has one of these names."""

    def kept(self, caller: str, version: str) -> Sequence[ObjectRow]:
        """Return a caller's kept rows of a version."""

    def names(self, caller: str, limit: int) -> Sequence[str]:
        """Return the names of some files and outputs of a caller, uploaded ones first."""

    def rows(self, caller: str | None = None, kind: Kind | None = None) -> Sequence[ObjectRow]:
        """Return the rows of a caller (None: of all) and of a kind (None: of all)."""

    def record(self, rows: Iterable[ObjectRow], guard: Guard = UNGUARDED) -> Sequence[ObjectRow]:
        """Record rows of one caller; return those with other keys that they replace, which become ``kept``.

        All of it is one transaction.

        Raises:
            LostClaimError: the claim of the guard is not valid any more.
            ProcessingError: ``storage_full``, or ``worker_died``: the store of the guard was away for too long.
        """

    def publish(self, row: ObjectRow, *, overwrite: bool, guard: Guard = UNGUARDED) -> Sequence[ObjectRow]:
        """Do the same for one row.

        Raises:
            FileExistsError: there is a row of this name and kind, and ``overwrite`` is False.
            PartLostError: somebody else writes this upload.
            ProcessingError: as above.
        """

    def take_part(
        self, key: str, writer: str, *, sha256: str | None, fingerprint: str | None, modified: float
    ) -> ObjectRow | None:
        """Let another one write an unfinished upload; whoever has written it finds that it is lost.

        Args:
            key: its key.
            writer: the new one.
            sha256: as announced; None does not change it.
            fingerprint: as announced; None does not change it.
            modified: the time.

        Returns:
            Its row; None if it is gone.
        """

    def update_part(self, key: str, writer: str, durable: int, tails: Sequence[int], modified: float) -> None:
        """Record the progress of an unfinished upload.

        Raises:
            PartLostError: somebody else writes it.
        """

    def forget_part(self, key: str, writer: str) -> Sequence[ObjectRow]:
        """Delete the row of an unfinished upload, unless somebody else writes it; return it."""

    def record_digest(self, key: str, sha256: str) -> None:
        """Record the digest of a file."""

    def record_use(self, used: Mapping[str, float]) -> None:
        """Record when files were last used, in seconds since 1970, by key."""

    def keep(self, keys: Collection[str]) -> None:
        """Let files lose their names, and stay as ``kept``."""

    def forget(self, keys: Iterable[str]) -> None:
        """Delete rows."""
