"""An unfinished upload in the object store: its bytes become objects as they come.

    KEY/000000, KEY/000001 …    pieces of the same size; of a complete file, the last one may be shorter
    KEY/000002-0-65536 …        *tails*: what a slow upload has sent of its last piece, from byte to byte of the piece

A piece is written as one object when all its bytes are there, and replaces its tails: so a file has the same objects
however slowly it came. Bytes are durable when they are in an object and its row in the catalog knows it. What is not
yet in a whole piece stays in memory, too, to be written with it.
"""

import hashlib
from typing import TYPE_CHECKING

import attrs

from creemson.catalog.objects import ObjectRow
from creemson.errors import ObjectStoreError
from creemson.storage.objects.address import piece_key, pieces_of
from creemson.storage.objects.bookkeeping import PutPiece
from creemson.storage.objects.bucket import ObjectBucket

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["PIECE_BYTES", "ObjectPart", "PieceTakenError", "objects_of"]

PIECE_BYTES = 8 * 1024 * 1024
"""Usual bytes of a piece. A file of 10 GiB has 1280; an upload that is killed sends at most so many bytes again."""


class PieceTakenError(Exception):
    """There is an object of this name with other bytes: another server has written it."""


@attrs.define(eq=False)
class ObjectPart:
    """An unfinished upload. All methods block; one at a time is called.

    Attributes:
        name: name that the file will have.
        key: what the names of its objects begin with.
        piece: bytes of each of its objects but the last.
        overwrite: whether the file may replace one of the same name.
        resumable: whether it has a row, and can be continued.
        writer: identifies who writes it, by its row; empty if it has none.
        size: number of bytes that have arrived.
        durable: number of these that are in objects.
        tails: sizes of the objects behind the last whole piece.
        published: the row of the file, once it is finished.
        interrupted: whether the object store has failed, so bytes that have arrived are lost.
        lost: whether somebody else has taken it over, or removed it.
    """

    name: str
    key: str
    piece: int
    overwrite: bool
    resumable: bool
    writer: str = ""
    size: int = 0
    durable: int = 0
    tails: tuple[int, ...] = ()
    published: ObjectRow | None = None
    interrupted: bool = False
    lost: bool = False
    _put_piece: PutPiece = attrs.field(kw_only=True)
    digest: "_Hash" = attrs.field(factory=hashlib.sha256, kw_only=True)  # of the bytes that have arrived
    _rest: bytearray = attrs.field(factory=bytearray, kw_only=True)  # the bytes behind the last whole piece

    @classmethod
    def resume(
        cls,
        row: ObjectRow,
        bucket: ObjectBucket,
        put: PutPiece,
        *,
        overwrite: bool,
        digest: "_Hash | None" = None,
    ) -> "ObjectPart":
        """Continue an upload that another server, or this one, has begun.

        Args:
            row: its row.
            bucket: the object store.
            put: writes an object; see :class:`creemson.storage.objects.bookkeeping.PutPiece`.
            overwrite: whether the file may replace one of the same name.
            digest: digest of the bytes that are durable, if known; otherwise all of them are read.

        Raises:
            FileNotFoundError: some of it is gone.
            ObjectStoreError: it could not be read.
        """
        part = cls(row.name, row.key, row.piece, overwrite, True, row.version, put_piece=put)
        whole = row.durable - sum(row.tails)
        for key, _ in _tails_of(row, whole, row.tails):
            part._rest += bucket.get(key)
        if digest is not None:
            part.digest = digest
        else:
            for key, _ in pieces_of(row.key, whole, row.piece) if whole else ():
                part.digest.update(bucket.get(key))
            part.digest.update(part._rest)
        part.tails = row.tails
        part.size = part.durable = row.durable
        return part

    @property
    def sha256(self) -> str:
        """The digest of the bytes that have arrived, in hexadecimal."""
        return self.digest.hexdigest()

    def write(self, data: bytes) -> list[str]:
        """Append ``data``; write the pieces that are whole now.

        Returns:
            The names of objects that can be removed when the progress is recorded.

        Raises:
            ObjectStoreError: a piece could not be written.
        """
        self.digest.update(data)
        self.size += len(data)
        self._rest += data
        needless: list[str] = []
        while len(self._rest) >= self.piece:
            needless += self._write_piece(memoryview(bytes(self._rest[: self.piece])))
            del self._rest[: self.piece]
        return needless

    def sync(self) -> None:
        """Write the bytes that are in no object yet as one.

        Raises:
            ObjectStoreError: it could not be written.
        """
        if self.durable < self.size:
            start = sum(self.tails)
            tails = (*self.tails, self.size - self.durable)
            key, _ = _tails_of(self, self.durable - start, tails)[-1]
            self._put(key, bytes(self._rest[start:]))
            self.tails, self.durable = tails, self.size

    def complete(self) -> list[str]:
        """Write the last piece; return the names of objects that can be removed when the file is published.

        Raises:
            ObjectStoreError: it could not be written.
        """
        if self._rest or not self.size:
            return self._write_piece(memoryview(self._rest))
        return []

    def _put(self, key: str, data: bytes | memoryview) -> None:
        try:
            self._put_piece(key, data)
        except ObjectStoreError:
            self.interrupted = True
            raise

    def _write_piece(self, data: memoryview) -> list[str]:
        whole = self.durable - sum(self.tails)
        self._put(piece_key(self.key, whole // self.piece), data)
        needless = [key for key, _ in _tails_of(self, whole, self.tails)]
        self.tails, self.durable = (), whole + len(data)
        return needless


def objects_of(row: ObjectRow) -> list[tuple[str, int]]:
    """Return the names of the objects that belong to a file or an unfinished upload, with their sizes."""
    if row.kind != "part":
        return pieces_of(row.key, row.size, row.piece)
    whole = row.durable - sum(row.tails)
    pieces = pieces_of(row.key, whole, row.piece) if whole else []
    return [*pieces, *_tails_of(row, whole, row.tails)]


def _tails_of(file: ObjectPart | ObjectRow, whole: int, tails: tuple[int, ...]) -> list[tuple[str, int]]:
    """Return the names of the objects behind the last whole piece, which ends at byte ``whole``; with their sizes."""
    found, start = [], 0
    for size in tails:
        found.append((f"{piece_key(file.key, whole // file.piece)}-{start}-{start + size}", size))
        start += size
    return found
