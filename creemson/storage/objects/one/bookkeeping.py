"""The bookkeeping of one server."""

from creemson.catalog.objects import Objects
from creemson.storage.objects.bookkeeping import Bookkeeping
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.one.garbage import MemoryGarbage
from creemson.storage.objects.one.holds import MemoryHolds
from creemson.storage.quota import Ledger

__all__ = ["in_memory"]


def in_memory(bucket: ObjectBucket, rows: Objects) -> Bookkeeping:
    """Return what a server needs that shares neither the object store nor the catalog."""
    return Bookkeeping(
        garbage=MemoryGarbage(bucket, rows),
        holds=lambda caller: MemoryHolds(rows, caller),
        ledger=lambda _, quota, measure: Ledger(quota, measure),
        put=bucket.put,
    )
