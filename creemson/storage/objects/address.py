"""What workers are told about files in an object store: an address, which is all that they need beside credentials.

A file to read: ``s3://BUCKET/PREFIX/KEY?name=NAME&size=SIZE&piece=PIECE``, its size and that of its objects. A file to
write, as one object: ``s3://BUCKET/PREFIX/KEY?name=NAME``.
"""

from collections.abc import Callable
from urllib.parse import parse_qs, urlencode

import attrs

from creemson.storage.names import is_remote

__all__ = ["Address", "split_url"]


def split_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix of ``storage.url``; the prefix ends with a slash if there is one.

    >>> split_url("s3://bucket/a/b"), split_url("s3://bucket")
    (('bucket', 'a/b/'), ('bucket', ''))
    """
    assert is_remote(url)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    return bucket, f"{prefix}/" if prefix else ""


@attrs.frozen
class Address:
    """The address of a file.

    Attributes:
        bucket: name of the bucket.
        path: names of its objects, or their beginning, in the bucket.
        name: name of the file.
        size: in bytes; None for a file to write.
        piece: bytes of each of its objects but the last; 0: it is one object.
    """

    bucket: str
    path: str
    name: str
    size: int | None = None
    piece: int = 0

    def __str__(self) -> str:
        """Return the address as text."""
        size = {} if self.size is None else {"size": self.size, "piece": self.piece}
        return f"s3://{self.bucket}/{self.path}?{urlencode({'name': self.name, **size})}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Return the address that a text describes.

        Raises:
            ValueError: it is none.
        """
        place, _, query = text.partition("?")
        bucket, _, path = place.removeprefix("s3://").partition("/")
        if not (is_remote(text) and bucket and path):
            raise ValueError(f"{text!r} is no address of an object")
        values = {name: value for name, (value,) in parse_qs(query).items()}
        size = int(values["size"]) if "size" in values else None
        return cls(bucket, path, values.get("name", ""), size, int(values.get("piece", 0)))

    def beside(self, naming: Callable[[str], str]) -> "Address":
        """Return the address of a file that belongs to this one.

        Args:
            naming: returns the name of that file for the name of this one.
        """
        folder, slash, last = self.path.rpartition("/")
        return Address(self.bucket, f"{folder}{slash}{naming(last)}", naming(self.name))

    def objects(self) -> list[tuple[str, int]]:
        """Return the objects of a file to read, with their sizes; an empty file has one, too."""
        assert self.size is not None
        return pieces_of(self.path, self.size, self.piece)


def pieces_of(key: str, size: int, piece: int) -> list[tuple[str, int]]:
    """Return the names of the objects that a file consists of, with their sizes; an empty file has one, too.

    >>> pieces_of("k", 25, 10)
    [('k/000000', 10), ('k/000001', 10), ('k/000002', 5)]
    >>> pieces_of("k", 25, 0)
    [('k', 25)]
    """
    if not piece:
        return [(key, size)]
    count = max(1, -(-size // piece))
    return [(piece_key(key, number), min(piece, size - number * piece)) for number in range(count)]


def piece_key(key: str, number: int) -> str:
    """Return the name of a piece of a file."""
    return f"{key}/{number:06d}"
