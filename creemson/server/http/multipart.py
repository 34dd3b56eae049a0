"""Finds the files in a multipart form (RFC 7578, RFC 2046): takes bytes of the body, returns names and bytes. Sans-IO.

python-multipart and multipart, the two parsers that Python servers use, know neither blanks behind a boundary (RFC 2046
section 5.1.1), nor a preamble (the first) or `filename*`, which many clients send although RFC 7578 advises against it.
Each byte is looked at a bounded number of times, however the body is split.
"""

import binascii
import enum
import re
from urllib.parse import unquote_to_bytes

import attrs

from creemson.errors import InvalidFormat

__all__ = ["Begun", "FormFiles", "file_name"]

MAX_HEADER_BYTES = 8 * 1024
"""Maximum bytes of all headers of one part."""
MAX_HEADERS = 20
"""Maximum number of headers of one part."""
MAX_PREAMBLE_BYTES = 16 * 1024
"""Maximum bytes before the first boundary."""
MAX_PADDING = 1000
"""Maximum number of blanks behind a boundary."""
MAX_PARTS = 1000
"""Maximum number of fields and files of one form."""
MAX_BOUNDARY = 70
"""Maximum number of characters of a boundary (RFC 2046 section 5.1.1)."""
_PARAMETER = re.compile(
    rb";\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^;\"\s]*))", re.DOTALL
)
_ENCODED_WORD = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?\s]*)\?=\s*")
"""An encoded word (RFC 2047 section 2), with the blanks behind it, which do not count (section 6.2)."""
_WORD_CHARSET = re.compile(
    r"utf-8|us-ascii|iso-8859-\d{1,2}|windows-125\d|koi8-[ru]|iso-2022-jp|shift_jis|euc-jp|euc-kr|gb2312|gbk|gb18030|big5",
    re.IGNORECASE,
)
"""Charsets of encoded words that are decoded: those of mail programs. Python knows others that are no charsets."""
_CHARSETS = frozenset({"utf-8", "iso-8859-1", "us-ascii"})
"""Charsets of `filename*` (RFC 5987 section 3.2.1)."""


@attrs.frozen
class Begun:
    """A file begins.

    Attributes:
        filename: name from the client, without folders.
    """

    filename: str


class _State(enum.Enum):
    """What comes next."""

    PREAMBLE = enum.auto()
    BOUNDARY = enum.auto()  # the rest of its line
    HEADERS = enum.auto()
    EMPTY_LINE = enum.auto()
    CONTENT = enum.auto()
    EPILOGUE = enum.auto()


class FormFiles:
    """Finds all files in the fields with a given name; other fields are skipped.

    Args:
        content_type: the `Content-Type` header of the request.
        field: name of the field.

    Raises:
        InvalidFormat: ``invalid_message``: the request is not a multipart form.
    """

    def __init__(self, content_type: str, field: str) -> None:
        header = content_type.encode("latin-1", "replace")
        boundary = _parameters(header).get("boundary", b"")
        kind = header.partition(b";")[0].strip().lower()
        if kind != b"multipart/form-data" or not 1 <= len(boundary) <= MAX_BOUNDARY:
            expected = f"multipart/form-data with a boundary of 1 to {MAX_BOUNDARY} characters"
            raise _unreadable(f"expected {expected}, got {content_type[:200]!r}")
        self._field = field.encode()
        self._delimiter = b"\r\n--" + boundary
        self._state = _State.PREAMBLE
        self._data = b"\r\n"  # a boundary at the very beginning needs no line end before it
        self._at = 0  # position in the data up to which it is parsed
        self._skipped = 0  # bytes of the preamble
        self._parts = 0
        self._in_file = False  # whether the current part is a file in the field
        self._is_unnamed = False  # whether it has an empty name, and no content so far
        self._found = False  # whether there has been one

    def feed(self, data: bytes) -> list[Begun | bytes]:
        """Parse bytes of the body.

        Args:
            data: the bytes; empty at the end of the body.

        Returns:
            The files that begin in them, and the bytes behind each beginning.

        Raises:
            InvalidFormat: ``invalid_message`` or ``invalid_filename``.
        """
        if not data and not (self._found and self._state is _State.EPILOGUE):
            what = "the end of the form" if self._found else f"a file in the field {self._field.decode()!r}"
            raise _unreadable(f"expected {what}")
        found: list[Begun | bytes] = []
        self._data, self._at = self._data[self._at :] + data, 0
        while self._step(found):
            pass
        return found

    def _step(self, found: list[Begun | bytes]) -> bool:
        """Parse what is complete; return whether more may follow."""
        match self._state:
            case _State.PREAMBLE | _State.CONTENT:
                return self._up_to_delimiter(found)
            case _State.BOUNDARY:
                return self._boundary()
            case _State.HEADERS:
                return self._headers(found)
            case _State.EMPTY_LINE:
                return self._empty_line()
            case _State.EPILOGUE:
                self._at = len(self._data)
        return False

    def _up_to_delimiter(self, found: list[Begun | bytes]) -> bool:
        index = self._data.find(self._delimiter, self._at)
        # The last bytes may be the beginning of a delimiter.
        end = index if index >= 0 else max(self._at, len(self._data) - len(self._delimiter) + 1)
        if self._in_file and end > self._at:
            if self._is_unnamed:
                self._begin("", found)
            found.append(self._data[self._at : end])
        elif self._state is _State.PREAMBLE:
            self._skipped += end - self._at
            if self._skipped > MAX_PREAMBLE_BYTES:
                raise _unreadable(f"there is no boundary in its first {MAX_PREAMBLE_BYTES:,} bytes")
        self._at = end
        if index < 0:
            return False
        self._at += len(self._delimiter)
        self._state = _State.BOUNDARY
        self._in_file = False
        return True

    def _boundary(self) -> bool:
        line = self._data[self._at : self._at + MAX_PADDING + 2]
        if line.startswith(b"--"):
            self._state = _State.EPILOGUE
            return True
        padding = len(line) - len(line.lstrip(b" \t"))
        after = line[padding : padding + 2]
        if padding > MAX_PADDING or (after not in (b"", b"\r", b"\r\n") and line != b"-"):
            raise _unreadable("unexpected bytes behind a boundary")
        if after != b"\r\n":
            return False
        self._at += (
            padding  # the line end stays: with it, an empty line ends the headers even if there are none
        )
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _unreadable(f"it has more than {MAX_PARTS:,} fields")
        self._state = _State.HEADERS
        return True

    def _headers(self, found: list[Begun | bytes]) -> bool:
        end = self._data.find(b"\r\n\r\n", self._at, self._at + MAX_HEADER_BYTES)
        if end < 0:
            if len(self._data) - self._at >= MAX_HEADER_BYTES:
                raise _unreadable(f"a field has more than {MAX_HEADER_BYTES:,} bytes of headers")
            return False
        headers = _headers_in(self._data[self._at : end])
        self._at = end + 2
        self._state = _State.EMPTY_LINE
        parameters = _parameters(headers.get(b"content-disposition", b""))
        if parameters.get("name") == self._field and not parameters.keys().isdisjoint(
            {"filename", "filename*"}
        ):
            if headers.get(b"content-transfer-encoding", b"binary").lower() not in (
                b"binary",
                b"8bit",
                b"7bit",
            ):
                raise _unreadable(
                    "its files must not have a Content-Transfer-Encoding (RFC 7578 section 4.7)"
                )
            self._in_file = True
            # Browsers send an empty name, and no content, for an input in which no file was selected.
            self._is_unnamed = parameters.get("filename") == b"" and "filename*" not in parameters
            if not self._is_unnamed:
                self._begin(file_name(parameters), found)
        return True

    def _begin(self, name: str, found: list[Begun | bytes]) -> None:
        found.append(Begun(name))
        self._found = True
        self._is_unnamed = False

    def _empty_line(self) -> bool:
        """Skip the empty line behind the headers; without any content, it belongs to the delimiter (RFC 2046)."""
        following = self._data[self._at : self._at + len(self._delimiter)]
        if following != self._delimiter:
            if self._delimiter.startswith(following):
                return False
            self._at += 2
        self._state = _State.CONTENT
        return True


def _headers_in(block: bytes) -> dict[bytes, bytes]:
    """Return the headers of a part, with names in lower case; each line begins after a line end."""
    lines = re.sub(rb"\r\n[ \t]+", b" ", block).split(b"\r\n")[1:]  # RFC 5322 section 2.2.3
    if len(lines) > MAX_HEADERS:
        raise _unreadable(f"a field has more than {MAX_HEADERS} headers")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise _unreadable(f"{line[:80]!r} is not a header")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers


def _parameters(header: bytes) -> dict[str, bytes]:
    """Return the parameters of a header; the first of each name counts."""
    parameters: dict[str, bytes] = {}
    for name, quoted, plain in _PARAMETER.findall(header):
        # Only a quote is escaped: some clients send the backslashes of a path as they are.
        parameters.setdefault(name.decode().lower(), quoted.replace(b'\\"', b'"') or plain)
    return parameters


def file_name(parameters: dict[str, bytes]) -> str:
    r"""Return the file name in the parameters of a `Content-Disposition`, without folders: some clients send a path.

    `filename*` counts more than `filename`, which often is an approximation in ASCII (RFC 6266 section 4.3).

    >>> file_name({"filename": b"C:\\data\\sales.csv"})
    'sales.csv'
    >>> file_name({"filename": b"Grosse.csv", "filename*": b"UTF-8''Gr%C3%B6%C3%9Fe.csv"})
    'Größe.csv'
    >>> file_name({"filename": b"=?utf-8?q?Gr=C3=B6=C3=9Fe=2Ecsv?="})
    'Größe.csv'
    """
    name = _extended(parameters["filename*"]) if "filename*" in parameters else None
    if name is None:
        if "filename" not in parameters:
            given = parameters["filename*"][:80].decode("latin-1")
            raise InvalidFormat(
                "invalid_filename",
                f"filename* is {given!r}; expected a form such as UTF-8''Gr%C3%B6%C3%9Fe.csv.",
            )
        raw = parameters["filename"]
        try:
            name = _without_encoded_words(raw.decode())
        except UnicodeDecodeError:
            raise InvalidFormat(
                "invalid_filename",
                f"The file name {raw[:80]!r} is not UTF-8. Use a plain name such as 'data.csv'.",
            ) from None
    return name.replace("\\", "/").rpartition("/")[2]


def _extended(value: bytes) -> str | None:
    """Decode a value such as ``UTF-8''a%20b`` (RFC 5987 section 3.2); return None if it is malformed."""
    charset, _, rest = value.partition(b"'")
    _, mark, quoted = rest.partition(b"'")
    encoding = charset.decode("latin-1").lower()
    if not mark or encoding not in _CHARSETS:
        return None
    try:
        return unquote_to_bytes(quoted).decode(encoding)
    except UnicodeDecodeError:
        return None


def _without_encoded_words(name: str) -> str:
    """Decode a name that consists of encoded words (RFC 2047); return any other name as it is."""
    words, position = [], 0
    while position < len(name):
        found = _ENCODED_WORD.match(name, position)
        if found is None or not _WORD_CHARSET.fullmatch(found[1]):
            return name
        charset, encoding, text = found.groups()
        try:
            is_base64 = encoding in "bB"
            data = (
                binascii.a2b_base64(text, strict_mode=True)
                if is_base64
                else binascii.a2b_qp(text, header=True)
            )
            words.append(data.decode(charset))
        except (ValueError, LookupError):
            return name
        position = found.end()
    return "".join(words)


def _unreadable(why: str) -> InvalidFormat:
    return InvalidFormat("invalid_message", f"The upload is not a valid form: {why}.")
