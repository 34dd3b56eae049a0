"""Finds at the start whether an object store can be used, and whether it keeps the promises that the server needs."""

import secrets
import threading
from collections.abc import Callable

from creemson.catalog.objects import Objects
from creemson.errors import ObjectStoreError
from creemson.storage.objects.bucket import ObjectBucket

__all__ = ["OWNER", "check_owner", "probe"]

OWNER = "creemson-owner"
"""Name of the object with the id of the catalog that knows what is under the prefix."""
PROBE_SECONDS = 9.0
"""Maximum seconds for the whole probe."""
REQUEST_SECONDS = 4.0
"""Maximum seconds for one of its requests."""
ENVIRONMENT = (
    "Check storage.url, and AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
    "environment of the server."
)


def probe(url: str, owner: str | None = None, *, has_files: bool = False) -> None:
    """Write, create, list, read and remove an object.

    Args:
        url: ``storage.url``.
        owner: id of the server's catalog, which becomes the owner of the prefix if there is none; None: do not look.
        has_files: whether the catalog has files, so that the prefix must be its own already.

    Raises:
        ObjectStoreError: the object store cannot be used; the message says why, and what to do.
    """
    failed: list[Exception] = []

    def work() -> None:
        try:
            _probe(ObjectBucket(url, request_seconds=REQUEST_SECONDS, retries=1), owner, has_files=has_files)
        except Exception as error:
            failed.append(error)

    # In a thread of its own: a search for credentials takes as long as it likes.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if thread.is_alive():
        raise ObjectStoreError(
            f"The object store {url} has not answered within {PROBE_SECONDS:g} s. {ENVIRONMENT}"
        )
    if failed:
        raise failed[0]


def _probe(bucket: ObjectBucket, owner: str | None, *, has_files: bool) -> None:
    folder = f"probe/{secrets.token_hex(8)}"
    key = f"{folder}/object"
    try:
        bucket.put(key, b"0123456789")
    except ObjectStoreError as error:
        raise ObjectStoreError(f"{error.strerror}. {ENVIRONMENT}") from None
    try:
        promises: dict[str, Callable[[], bool]] = {
            "refuse to create an object that exists (a conditional write, `If-None-Match: *`)": (
                lambda: not bucket.create(key, b"another") and bucket.create(f"{folder}/new", b"new")
            ),
            "return a range of an object": lambda: bytes(bucket.get(key, 3, 4)) == b"3456",
            "list the objects that it has": lambda: (
                dict(bucket.sizes(folder)) == {key: 10, f"{folder}/new": 3}
            ),
        }
        for promise, is_kept in promises.items():
            if not is_kept():
                raise ObjectStoreError(
                    f"The object store {bucket.url} cannot be used: it does not {promise}. Use one that does: Amazon "
                    "S3, MinIO, SeaweedFS and Ceph do."
                )
    finally:
        bucket.remove([key, f"{folder}/new"])
    if owner is not None:
        _take_prefix(bucket, owner, has_files=has_files)


def _take_prefix(bucket: ObjectBucket, owner: str, *, has_files: bool) -> None:
    """Check that no other catalog uses the prefix: each would remove the objects that only the other one knows."""
    if bucket.create(OWNER, owner.encode()):
        if has_files:
            bucket.remove([OWNER])
            raise ObjectStoreError(
                f"The catalog has files, and {bucket.url} has none of its objects. Let storage.url and "
                "AWS_ENDPOINT_URL be the same for all servers. If the objects are lost, begin with an empty database."
            )
        return
    found = bytes(bucket.get(OWNER)).decode(errors="replace")
    if found != owner:
        raise ObjectStoreError(
            f"{bucket.url} belongs to another catalog. Choose another prefix in storage.url, or start the server with "
            f"the catalog.db that belongs to it. If that is lost, so is the list of its files: remove the object "
            f"{OWNER!r} to let this server take the prefix over and remove all that is there."
        )


def check_owner(rows: Objects, owner: str, url: str) -> None:
    """Check that the catalog is the one with which the server has started: a new one knows no objects.

    Raises:
        ObjectStoreError: it is another one.
    """
    if rows.owner(secrets.token_hex(16)) != owner:
        raise ObjectStoreError(
            f"The catalog was damaged and replaced, so no object of {url} is removed. Restore it from a backup, and "
            "start the server again"
        )
