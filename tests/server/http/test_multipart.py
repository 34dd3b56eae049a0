"""The files of a multipart form, however its bytes are split."""

import base64
import itertools

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.errors import InvalidFormat
from creemson.server.http.multipart import Begun, FormFiles

KIND = 'multipart/form-data; boundary="some boundary"'


def part(disposition, data, *headers, padding=b""):
    lines = [
        b"--some boundary" + padding,
        b"Content-Disposition: form-data; " + disposition,
        *headers,
        b"",
        data,
        b"",
    ]
    return b"\r\n".join(lines)


def form(*fields, padding=b""):
    """Return a body with fields of (name, filename or None, bytes), and blanks behind the boundaries."""
    body = b""
    for name, filename, data in fields:
        file = b"" if filename is None else b'; filename="%b"' % filename
        body += part(b'name="%b"%b' % (name, file), data, b"Content-Type: text/x", padding=padding)
    return body + b"--some boundary--\r\n"


def read(body, cuts=(), kind=KIND):
    """Return the files as a list of names and contents."""
    files = FormFiles(kind, "file")
    edges = itertools.pairwise([0, *sorted(cuts), len(body)])
    found = [
        event for start, end in edges if end > start for event in files.feed(body[start:end])
    ] + files.feed(b"")
    contents = []
    for event in found:
        if isinstance(event, Begun):
            contents.append((event.filename, b""))
        else:
            name, content = contents[-1]
            contents[-1] = (name, content + event)
    return contents


NEAR = st.sampled_from(
    [b"\r\n--some", b"\r\n", b"--some boundary", b"\n--some boundary--\n", b"\r\n\r\n", b"-"]
)
CONTENT = st.lists(NEAR | st.binary(max_size=30), max_size=6).map(b"".join)


@given(
    contents=st.lists(
        CONTENT.filter(lambda data: b"\r\n--some boundary" not in b"\r\n" + data), min_size=1, max_size=4
    ),
    preamble=st.sampled_from([b"", b"\r\n", b"preamble\r\n", b"--some\r\n"]),
    padding=st.sampled_from([b"", b" ", b"\t \t"]),
    epilogue=st.sampled_from([b"", b"\r\n--some boundary\r\n\r\n"]),
    cuts=st.lists(st.integers(0, 500), max_size=20),
)
def test_files_of_any_content_are_returned_for_any_split(contents, preamble, padding, epilogue, cuts):
    """With fields between them, a preamble, blanks behind boundaries and an epilogue (RFC 2046 section 5.1.1)."""
    fields = [(b"file", b"%d.csv" % number, content) for number, content in enumerate(contents)]
    between = [field for file in fields for field in ((b"a", None, b"x"), file)]
    body = preamble + form(*between, padding=padding) + epilogue
    assert read(body, [cut for cut in cuts if cut < len(body)]) == [
        (name.decode(), data) for _, name, data in fields
    ]


def test_form_byte_by_byte_is_the_same():
    """No boundary is missed."""
    body = b"preamble\r\n" + form((b"file", b"a", b"1\r\n--some"), (b"file", b"b", b""), (b"x", None, b""))
    assert read(body, range(len(body))) == read(body) == [("a", b"1\r\n--some"), ("b", b"")]


@pytest.mark.parametrize("others", [0, 1])
def test_input_without_a_selected_file_is_skipped(others):
    """Browsers send an empty name and no content. Content without a name is a file, whose name is refused."""
    files = [(b"file", b"a.csv", b"a")] * others
    body = form((b"file", b"", b""), *files, (b"file", b"", b""))
    if others:
        assert read(body) == read(body, range(len(body))) == [("a.csv", b"a")]
    else:
        with pytest.raises(InvalidFormat, match="expected a file in the field 'file'"):
            read(body)
    body = form(*files, (b"file", b"", b"x"))
    assert read(body) == read(body, range(len(body))) == [("a.csv", b"a")] * others + [("", b"x")]


def test_part_without_content_and_without_an_own_line_end_is_empty():
    """The line end behind its headers begins the next delimiter."""
    body = part(b'name="file"; filename="a"', b"").removesuffix(b"\r\n") + b"--some boundary--"
    assert read(body) == read(body, range(len(body))) == [("a", b"")]


@given(
    st.dictionaries(
        st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8),
        st.binary(max_size=50),
        min_size=1,
    )
)
def test_form_of_httpx_is_read(files):
    """A foreign client's encoder."""
    request = httpx.Request(
        "POST", "http://x/", files=[("file", (name, content)) for name, content in files.items()]
    )
    assert read(request.read(), kind=request.headers["content-type"]) == list(files.items())


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(noise):
    """Arbitrary bytes are refused as an invalid form."""
    with pytest.raises(InvalidFormat) as caught:
        read(b"--some boundary\r\n" + noise)
    assert caught.value.reason in ("invalid_message", "invalid_filename")


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=",
                                  "multipart/form-data; boundary=" + "b" * 71, "multipart/form-dataX; boundary=b"])  # fmt: skip
def test_other_content_type_is_refused(kind):
    """The message names the expected content type."""
    with pytest.raises(InvalidFormat, match="multipart/form-data") as caught:
        FormFiles(kind, "file")
    assert caught.value.reason == "invalid_message"


WORD = base64.b64encode("Größe.csv".encode()).decode()


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ('filename="a.csv"', "a.csv"),
        ("filename=a.csv", "a.csv"),
        ('FileName = "a;b=\\"c\\".csv"', 'a;b="c".csv'),
        ('filename="C:\\data\\a.csv"', "a.csv"),
        ('filename="/tmp/a.csv"', "a.csv"),
        ('filename="Größe.csv"', "Größe.csv"),
        ("filename*=UTF-8''Gr%C3%B6%C3%9Fe.csv", "Größe.csv"),
        ("filename*=utf-8'de'Gr%C3%B6%C3%9Fe.csv", "Größe.csv"),
        ("filename*=iso-8859-1''Gr%F6%DFe.csv", "Größe.csv"),
        ("filename=\"Grosse.csv\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.csv", "Größe.csv"),
        ("filename*=UTF-8''Gr%C3%B6%C3%9Fe.csv; filename=\"Grosse.csv\"", "Größe.csv"),
        ("filename=\"Grosse.csv\"; filename*=UTF-8''Gr%F6%DFe.csv", "Grosse.csv"),
        ('filename="Grosse.csv"; filename*=nonsense', "Grosse.csv"),
        ("filename*=UTF-8''..%2Fa.csv", "a.csv"),
        (f'filename="=?UTF-8?B?{WORD}?="', "Größe.csv"),
        ('filename="=?iso-8859-1?q?Gr=F6=DFe_2=2Ecsv?="', "Größe 2.csv"),
        ('filename="=?utf-8?q?Gr=C3=B6?= =?utf-8?q?=C3=9Fe.csv?="', "Größe.csv"),
        ('filename="=?unicode_escape?q?x?="', "=?unicode_escape?q?x?="),
        ('filename="=?utf-8?b?====?="', "=?utf-8?b?====?="),
        ('filename="a =?utf-8?q?b?="', "a =?utf-8?q?b?="),
    ],
)  # fmt: skip
def test_name_of_a_file_is_found_in_every_notation(parameters, name):
    """`filename*` counts more than `filename`; encoded words are decoded (RFC 2047)."""
    body = part(f'name="file"; {parameters}'.encode(), b"x") + b"--some boundary--"
    assert read(body) == [(name, b"x")]


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        (b'filename="\xff.csv"', "not UTF-8"),
        (b"filename*=UTF-8''%ff", r"filename\* is \"UTF-8''%ff\";"),
        (b"filename*=x", r"filename\*"),
    ],
)
def test_name_that_cannot_be_read_is_refused(parameters, match):
    """The encoding is not guessed, and the message names the cause."""
    with pytest.raises(InvalidFormat, match=match) as caught:
        read(part(b'name="file"; ' + parameters, b"") + b"--some boundary--")
    assert caught.value.reason == "invalid_filename"


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"x" * 20_000, "no boundary"),
        (b"--some boundary\r\nX: " + b"x" * 9_000, "bytes of headers"),
        (b"--some boundary\r\n" + b"X: y\r\n" * 21 + b"\r\n", "headers"),
        (b"--some boundary\r\nnonsense\r\n\r\n", "not a header"),
        (b"--some boundaryX\r\n", "behind a boundary"),
        (b"--some boundary" + b" " * 1001, "behind a boundary"),
        (form(*[(b"a", None, b"")] * 1001), "1,000 fields"),
        (part(b'name="file"; filename="a"', b"eA==", b"Content-Transfer-Encoding: base64"), "Transfer-Encoding"),
        (part(b'name="file"; filename="a"', b"cut"), "end of the form"),
        (form((b"file", None, b"text")), "a file in the field 'file'"),
        (b"--some boundary--", "a file in the field 'file'"),
        (b"", "a file in the field 'file'"),
    ],
)  # fmt: skip
def test_form_that_cannot_be_read_is_refused(body, match):
    """The message says what is wrong; what a client may repeat is bounded."""
    with pytest.raises(InvalidFormat, match=match) as caught:
        read(body)
    assert caught.value.reason == "invalid_message"


def test_field_without_a_file_is_skipped():
    """A field with the right name but no file is skipped as well."""
    assert read(form((b"file", None, b"text"), (b"file", b"a.csv", b"data"))) == [("a.csv", b"data")]
