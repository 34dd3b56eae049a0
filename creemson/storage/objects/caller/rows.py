"""What follows from the row of a file: its address for workers, and how it counts."""

from creemson.catalog.objects import ObjectRow, Objects
from creemson.model.identity import Identity
from creemson.storage.objects.address import Address
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.store import Found

__all__ = ["address_of", "counted_bytes", "counted_key", "found"]


def found(bucket: ObjectBucket, row: ObjectRow) -> Found:
    """Return what a worker needs of a file."""
    # The key belongs to these bytes only, so a worker need not compare anything else.
    return Found(address_of(bucket, row), row.version, Identity(0, row.size, 0))


def address_of(bucket: ObjectBucket, row: ObjectRow) -> str:
    """Return the address from which a worker reads a file."""
    return str(Address(bucket.name, bucket.prefix + row.key, row.name, row.size, row.piece))


def counted_key(row: ObjectRow) -> str:
    """Return the key of a row in the ledger: a file that replaces another one has the same."""
    return f"{row.kind}:{row.name}" if row.kind in ("upload", "output") else row.key


def counted_bytes(rows: Objects, caller: str, key: str) -> int:
    """Return the bytes of what has a key in the ledger of a caller."""
    kind, _, name = key.partition(":")
    if kind in ("upload", "output"):
        row = rows.named(caller, name, kind)  # type: ignore[arg-type] # checked above
    else:
        row = rows.row(key)
        if row is not None and row.kind not in ("part", "kept"):
            row = None
    return 0 if row is None else row.size
