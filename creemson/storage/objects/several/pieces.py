"""Writes the pieces of an upload that another server may write, too."""

import time

from creemson.errors import ObjectStoreError
from creemson.storage.objects.bucket import RETRIES, RETRY_SECONDS, ObjectBucket
from creemson.storage.objects.part import PieceTakenError

__all__ = ["PutOnce"]

RETRY_INTERVAL = 0.2
"""Seconds before a request is repeated; each time twice as many."""


class PutOnce:
    """Implements :class:`creemson.storage.objects.bookkeeping.PutPiece`: no object is ever replaced by other bytes.

    A server that has lost an upload may not know that yet, and write one more piece at any time. So a piece is
    created, and one that is there already must have the same bytes: it has, if both servers get the same file.

    Args:
        bucket: the object store.
    """

    def __init__(self, bucket: ObjectBucket) -> None:
        self._bucket = bucket

    def __call__(self, key: str, data: bytes | memoryview) -> None:
        """Write an object.

        Raises:
            PieceTakenError: there is one with other bytes.
            ObjectStoreError: it could not be written.
        """
        began, attempt = time.monotonic(), 0
        while True:
            try:
                # The library repeats only requests that it may repeat; this one may be, because its end is compared.
                if not self._bucket.create(key, data) and self._bucket.get(key) != data:
                    raise PieceTakenError(key)
            except (ObjectStoreError, FileNotFoundError):  # or it was removed in between
                attempt += 1
                if attempt > RETRIES or time.monotonic() - began > RETRY_SECONDS:
                    raise
                time.sleep(RETRY_INTERVAL * 2**attempt)
            else:
                return
