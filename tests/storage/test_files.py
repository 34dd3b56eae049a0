"""Files on disk: names that are safe, and where files are."""

import hashlib
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.errors import InvalidFormat, ProcessingError
from creemson.storage.files import MAX_NAME_BYTES, Files, check_name, is_temporary, temporary_name

DATA = b"a,b\n1,2\n"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path / "data")
    files.prepare()
    return files


def put(files, name):
    (files.uploads / name).write_bytes(DATA)


BAD_NAMES = [
    "", ".", "..", "../a.csv", "a/b.csv", "/etc/passwd", "a\\b.csv", "..\\a.csv", "\\\\host\\share", "C:", "c:a.csv",
    "C:\\a.csv", ".hidden", "a\x00.csv", "a\n.csv", "a\x7f.csv", "a\x85.csv", "trailing.", "trailing ", "con", "CON.txt",
    "nul", "Aux.csv", "prn.tar.gz", "COM1", "com9.csv", "LPT1.csv", "lpt¹.csv", "x" * 256, "ü" * 128, "a\ud800",
]  # fmt: skip
GOOD_NAMES = [
    "a.csv", "data 2024.csv", "Größe.csv", "数据.parquet", "a..b.csv", "x" * 255, "console.csv", "com.csv", "lpt10.csv",
    "-rf", "ab:c", "[1]*.csv", "~", "%2e%2e", "👍.csv", "nul_.csv",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_unsafe_names_are_refused(name):
    """Whatever could leave the folder, or mean something else on another system, is `invalid_filename`."""
    with pytest.raises(InvalidFormat) as caught:
        check_name(name)
    assert caught.value.reason == "invalid_filename"


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_plain_names_are_accepted(files, name):
    """Unicode and odd punctuation are welcome, and make files."""
    put(files, name)
    assert files.find(name).read_bytes() == DATA


@given(st.text(st.characters(), max_size=300))
def test_a_checked_name_is_one_safe_component(name):
    """Of any text, what passes is one component and stays in its folder."""
    try:
        check_name(name)
    except InvalidFormat:
        return
    assert "/" not in name
    assert name not in (".", "..")
    assert 1 <= len(os.fsencode(name)) <= MAX_NAME_BYTES
    assert not any(unicodedata.category(char) == "Cc" for char in name)


def test_links_are_not_followed(files, tmp_path):
    """A link in the uploads could lead anywhere."""
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    (files.uploads / "link.csv").symlink_to(secret)
    with pytest.raises(InvalidFormat) as caught:
        files.find("link.csv")
    assert caught.value.reason == "invalid_filename"


def test_a_folder_is_no_file(files):
    """A folder of that name is not found."""
    (files.uploads / "folder").mkdir()
    with pytest.raises(ProcessingError) as caught:
        files.find("folder")
    assert caught.value.reason == "file_not_found"


def test_the_nearest_name_is_suggested(files):
    """A slip of the pen is easily mended."""
    put(files, "flights.csv")
    with pytest.raises(ProcessingError, match=r"Did you mean 'flights\.csv'"):
        files.find("flihgts.csv")
    with pytest.raises(ProcessingError, match="Upload it first"):
        files.find("something else")


def test_a_new_version_is_told_apart(files):
    """The same name with other content is other work."""
    put(files, "a.csv")
    before = files.version(files.find("a.csv"))
    assert files.version(files.find("a.csv")) == before
    (files.uploads / "a.csv").unlink()
    put(files, "a.csv")
    assert files.version(files.find("a.csv")) != before


def test_leftovers_are_swept_at_start(files):
    """A crashed server's half-written outputs go; files that are whole stay, and so do unfinished uploads."""
    (files.outputs / temporary_name("a.parquet", "1")).write_bytes(b"half")
    (files.parts / temporary_name("a.csv", "1")).write_bytes(b"half")
    (files.outputs / "a.parquet").write_bytes(b"whole")
    files.prepare()
    assert [path.name for path in files.outputs.iterdir()] == ["a.parquet"]
    assert len(list(files.parts.iterdir())) == 1


@given(st.sampled_from(GOOD_NAMES), st.integers(0, 99))
def test_temporary_names_are_hidden_and_short(name, attempt):
    """They can be told from files, and fit wherever the file does."""
    temporary = temporary_name(name, str(attempt))
    assert is_temporary(temporary)
    assert len(temporary) < 64


def test_an_output_is_found_under_its_other_formats(files):
    """`X.csv` asks for the stored `X.parquet`; other names do not."""
    formats = ("parquet", "csv", "xlsx")
    (files.outputs / "x-1.parquet").write_bytes(b"")
    assert files.find_output_of("x-1.csv", formats) == files.outputs / "x-1.parquet"
    assert files.find_output_of("x-1.exe", formats) is None
    assert files.find_output_of("y-1.csv", formats) is None


def test_an_output_goes_with_what_was_made_of_it(files):
    """Neither other outputs nor names with special characters are touched."""
    for name in ("[a]-1.parquet", "[a]-1.csv", "a-1.parquet", "[a]-12.parquet"):
        (files.outputs / name).write_bytes(b"")
    files.remove_output("[a]-1.parquet", ("parquet", "csv"))
    assert sorted(path.name for path in files.outputs.iterdir()) == ["[a]-12.parquet", "a-1.parquet"]
