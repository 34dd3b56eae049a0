"""The door to the object store: a few operations on objects, each bounded in time, with errors in words.

obstore's calls for asyncio cannot be used under trio; its other calls release the GIL, and are made in threads.
Endpoint, region and credentials come from the environment that all tools for S3 use (``AWS_ENDPOINT_URL``,
``AWS_REGION``, ``AWS_ACCESS_KEY_ID`` …). No message contains them.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from creemson.errors import ObjectStoreError
from creemson.storage.objects.address import split_url

__all__ = ["ObjectBucket"]

CONNECT_SECONDS = 3.0
"""Maximum seconds for a connection to the object store."""
REQUEST_SECONDS = 10.0
"""Maximum seconds for one request. The largest carry 8 MiB, so less than 7 Mbit/s are not enough."""
RETRIES, RETRY_SECONDS = 3, 5.0
"""A request that failed is repeated so often, if it began less than so many seconds ago."""
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Variables of the environment with the address of the object store, the first that is set; without any: Amazon S3."""
PART_BYTES = 8 * 1024 * 1024
"""A file that is written from the disk is sent in parts of so many bytes, two at once."""
_CODES = (
    re.compile(r"<Code>(\w+)</Code>"),
    re.compile(r"status code: (\d{3})"),
    re.compile(r"(error sending request|operation timed out)"),
)
"""What tells why a request failed, the most exact first."""
_WORDS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "AccessDenied": "the credentials do not allow this",
    "403": "the credentials do not allow this",
    "401": "the credentials do not allow this",
    "error sending request": "it does not answer",
    "operation timed out": "it does not answer",
}
"""What is wrong, by what an error of obstore contains."""


class ObjectBucket:
    """The objects under a prefix. All methods block, and may be called from any thread.

    Args:
        url: ``s3://BUCKET/PREFIX``.
        request_seconds: maximum seconds for one request.
        retries: how often a request that failed is repeated.

    Raises:
        ObjectStoreError: the environment is not usable.
    """

    def __init__(self, url: str, *, request_seconds: float = REQUEST_SECONDS, retries: int = RETRIES) -> None:
        self.url = url
        self.name, self.prefix = split_url(url)
        self.endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
        try:
            self._store = S3Store(
                self.name,
                # None is no value of an option of obstore.
                config={} if self.endpoint is None else {"endpoint": self.endpoint},
                client_options={
                    "allow_http": (self.endpoint or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                    "timeout": timedelta(seconds=request_seconds),
                },
                retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
            )
        except (BaseError, ValueError) as error:
            raise ObjectStoreError(f"The object store {url} cannot be used: {_first_line(error)}") from None

    def scan_options(self) -> dict[str, str | int]:
        """Return what polars needs to read the objects itself; it takes the credentials from the environment, too."""
        endpoint = {} if self.endpoint is None else {"aws_endpoint_url": self.endpoint}
        return {
            **endpoint,
            "aws_allow_http": str((self.endpoint or "").startswith("http://")).lower(),
            "connect_timeout": f"{CONNECT_SECONDS:g}s",
            "timeout": f"{REQUEST_SECONDS:g}s",
            "max_retries": RETRIES,
            "retry_timeout_ms": int(RETRY_SECONDS * 1000),
        }

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object; it replaces one of the same name.

        Raises:
            ObjectStoreError: it could not be written.
        """
        with self._explained():
            obstore.put(self._store, self.prefix + key, data, use_multipart=False)

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Write an object unless there is one of this name; return whether it was written.

        Raises:
            ObjectStoreError: it could not be written.
        """
        with self._explained():
            try:
                obstore.put(self._store, self.prefix + key, data, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def put_file(self, key: str, path: Path) -> None:
        """Write a file of the disk as one object, of which nothing is seen before it is complete.

        Raises:
            ObjectStoreError: it could not be written.
            OSError: the file cannot be read.
        """
        with self._explained():
            obstore.put(self._store, self.prefix + key, path, chunk_size=PART_BYTES, max_concurrency=2)

    def get(self, key: str, start: int = 0, size: int | None = None) -> memoryview:
        """Read an object, or ``size`` bytes of it, at least one, from ``start`` on.

        Raises:
            FileNotFoundError: there is no such object.
            ObjectStoreError: it could not be read.
        """
        with self._explained():
            if size is None:
                return memoryview(obstore.get(self._store, self.prefix + key).bytes())
            return memoryview(obstore.get_range(self._store, self.prefix + key, start=start, length=size))

    def size(self, key: str) -> int:
        """Return the size of an object in bytes.

        Raises:
            FileNotFoundError: there is no such object.
            ObjectStoreError: the object store failed.
        """
        with self._explained():
            return obstore.head(self._store, self.prefix + key)["size"]

    def sizes(self, beginning: str = "") -> Iterator[tuple[str, int]]:
        """Yield the names of the objects that begin with a folder's name and a slash, and their sizes.

        Raises:
            ObjectStoreError: they could not be listed.
        """
        with self._explained():
            for page in obstore.list(self._store, f"{self.prefix}{beginning}".rstrip("/")):
                for found in page:
                    yield found["path"].removeprefix(self.prefix), found["size"]

    def remove(self, keys: Collection[str]) -> None:
        """Remove objects; those that do not exist count as removed.

        Raises:
            ObjectStoreError: some may not have been removed.
        """
        if keys:
            with self._explained(), contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store, [self.prefix + key for key in keys])

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of obstore into errors in words."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                self._fail(error)
            raise FileNotFoundError("there is no such object") from None
        except (BaseError, PermissionError, TimeoutError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        found = filter(None, (pattern.search(str(error)) for pattern in _CODES))
        code = next((match[1] for match in found), "")
        what = _WORDS.get(code) or (f"it answers {code}" if code else _first_line(error))
        where = self.url if self.endpoint is None else f"{self.url} at {_without_user(self.endpoint)}"
        raise ObjectStoreError(f"The object store {where} failed: {what}") from None


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


def _without_user(endpoint: str) -> str:
    """Return an address without a user and password."""
    return re.sub(r"//[^/@]*@", "//", endpoint)
