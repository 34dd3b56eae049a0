"""The file of a multipart form (RFC 7578), sans-IO: bytes of the body go in, bytes of the file come out."""

import logging
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from creemson.errors import InvalidFormat

__all__ = ["FileField"]

# It warns of what it raises, and without any handler the warning would go to stderr as it is.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


class FileField:
    """Finds the first field of a given name that is a file; other fields are passed over.

    Args:
        content_type: header of the request.
        field: the name.

    Attributes:
        filename: as the client gave it, without folders; None until it has come.
        complete: whether the file has ended.

    Raises:
        InvalidFormat: ``invalid_message``: it is no multipart form.
    """

    def __init__(self, content_type: str, field: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise _unreadable(f"expected multipart/form-data with a boundary, got {content_type!r}")
        self.filename: str | None = None
        self.complete = False
        self._field = field.encode()
        self._inside = False
        self._header = [b"", b""]
        self._disposition = b""
        self._data: list[bytes] = []
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._on_part_begin,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_header_field": lambda data, start, end: self._on_header(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._on_header(1, data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                },
            )
        except FormParserError as error:  # the boundary is longer than it takes
            raise _unreadable(str(error)) from error

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes of the body; b"" is its end.

        Returns:
            The bytes of the file that were among them.

        Raises:
            InvalidFormat: ``invalid_message`` or ``invalid_filename``.
        """
        try:
            if data:
                self._parser.write(data)
            else:
                self._parser.finalize()
        except FormParserError as error:
            raise _unreadable(str(error)) from error
        if not data and not self.complete:
            raise _unreadable(f"expected a file in the field {self._field.decode()!r} up to its end")
        found, self._data = self._data, []
        return found

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header(self, which: int, piece: bytes) -> None:
        self._header[which] += piece

    def _on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = [b"", b""]

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if self.filename is None and options.get(b"name") == self._field and b"filename" in options:
            self.filename = _last_component(options[b"filename"])
            self._inside = True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._data.append(data[start:end])

    def _on_part_end(self) -> None:
        self.complete = self.complete or self._inside
        self._inside = False


def _last_component(raw: bytes) -> str:
    r"""Some clients send the path on their own disk.

    >>> _last_component(b"C:\\data\\sales.csv"), _last_component("Größe.csv".encode())
    ('sales.csv', 'Größe.csv')
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise InvalidFormat(
            "invalid_filename", f"The file name {raw!r} is not UTF-8. Give one plain name such as 'data.csv'."
        ) from None
    return name.replace("\\", "/").rpartition("/")[2]


def _unreadable(why: Any) -> InvalidFormat:
    return InvalidFormat("invalid_message", f"The upload cannot be read as a form: {why}.")
