"""The file of a form, however its bytes are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.errors import InvalidFormat
from creemson.server.multipart import FileField

KIND = 'multipart/form-data; boundary="some boundary"'


def form(*fields):
    """A body with fields of (name, filename or None, bytes)."""
    body = b""
    for name, filename, data in fields:
        file = b"" if filename is None else b'; filename="%b"' % filename
        body += b"--some boundary\r\nContent-Type: text/x\r\n"
        body += b'Content-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name, file, data)
    return body + b"--some boundary--\r\n"


def read(body, cuts=()):
    field = FileField(KIND, "file")
    edges = itertools.pairwise([0, *sorted(cuts), len(body)])
    data = b"".join(piece for start, end in edges if end > start for piece in field.feed(body[start:end]))
    return field, data + b"".join(field.feed(b""))


@given(st.data(), st.binary(max_size=200))
def test_any_bytes_in_any_pieces(data, content):
    """What was put into the form comes out of it, line ends and near-boundaries included."""
    body = form((b"a", None, b"x"), (b"file", b"n.csv", content + b"\r\n--some"), (b"file", b"second", b"y"))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
    field, found = read(body, cuts)
    assert found == content + b"\r\n--some"
    assert (field.filename, field.complete) == ("n.csv", True)


@given(st.binary(max_size=300))
def test_noise_is_refused_in_words(noise):
    """Arbitrary bytes are no form."""
    with pytest.raises(InvalidFormat) as caught:
        read(b"--some boundary\r\n" + noise)
    assert caught.value.reason in ("invalid_message", "invalid_filename")


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary="])
def test_other_content_is_refused(kind):
    """The message says what was expected."""
    with pytest.raises(InvalidFormat, match="multipart/form-data") as caught:
        FileField(kind, "file")
    assert caught.value.reason == "invalid_message"


def test_a_name_that_is_not_utf_8():
    """It is refused rather than guessed."""
    with pytest.raises(InvalidFormat) as caught:
        read(form((b"file", b"\xff.csv", b"")))
    assert caught.value.reason == "invalid_filename"


def test_a_field_without_a_file_is_passed_over():
    """Also one of the right name."""
    field, found = read(form((b"file", None, b"text"), (b"file", b"a.csv", b"data")))
    assert (field.filename, found) == ("a.csv", b"data")
