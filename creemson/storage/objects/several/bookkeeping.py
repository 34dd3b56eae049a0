"""The bookkeeping of several servers."""

from concurrent.futures import Executor

from creemson.catalog.shared.objects import SharedObjects
from creemson.storage.objects.bookkeeping import Bookkeeping
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.several.garbage import SharedGarbage
from creemson.storage.objects.several.holds import SharedHolds
from creemson.storage.objects.several.ledger import SharedLedger
from creemson.storage.objects.several.pieces import PutOnce

__all__ = ["in_catalog"]


def in_catalog(bucket: ObjectBucket, rows: SharedObjects, threads: Executor) -> Bookkeeping:
    """Return what a server needs that shares the object store and the catalog with others."""
    garbage = SharedGarbage(bucket, rows, threads)
    return Bookkeeping(
        garbage=garbage,
        holds=lambda caller: SharedHolds(rows, caller),
        ledger=lambda caller, quota, _: SharedLedger(rows.usage(caller, quota), quota, garbage.store_of),
        put=PutOnce(bucket),
        row_counts=rows.row_counts,
    )
