"""Files on disk: names that are safe, uploads that appear whole or not at all."""

import errno
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


def put(files, name, data=DATA, *, overwrite=False, sha256=None):
    part = files.begin(name, overwrite=overwrite)
    part.write(data)
    return part.finish(sha256)


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


def test_an_upload_appears_when_it_is_finished(files):
    """Until then there is no file of its name."""
    part = files.begin("a.csv", overwrite=False)
    part.write(DATA)
    with pytest.raises(ProcessingError) as caught:
        files.find("a.csv")
    assert caught.value.reason == "file_not_found"
    assert part.finish() == DIGEST
    assert files.find("a.csv").read_bytes() == DATA
    assert list(files.parts.iterdir()) == []


def test_a_discarded_upload_leaves_nothing(files):
    """Discarding is possible at any time, and twice."""
    part = files.begin("a.csv", overwrite=False)
    part.write(DATA)
    part.discard()
    part.discard()
    assert list(files.parts.iterdir()) == []
    assert list(files.uploads.iterdir()) == []


def test_an_existing_name_needs_overwrite(files):
    """`file_exists` is told before the bytes are sent."""
    put(files, "a.csv")
    with pytest.raises(ProcessingError) as caught:
        files.begin("a.csv", overwrite=False)
    assert caught.value.reason == "file_exists"
    put(files, "a.csv", b"new", overwrite=True)
    assert files.find("a.csv").read_bytes() == b"new"


def test_a_name_taken_meanwhile_is_not_overwritten(files):
    """Of two uploads of one name at once, the first to finish keeps it."""
    first = files.begin("a.csv", overwrite=False)
    second = files.begin("a.csv", overwrite=False)
    first.write(b"first")
    second.write(b"second")
    first.finish()
    with pytest.raises(ProcessingError) as caught:
        second.finish()
    assert caught.value.reason == "file_exists"
    assert files.find("a.csv").read_bytes() == b"first"
    assert list(files.parts.iterdir()) == []


def test_a_wrong_digest_leaves_nothing(files):
    """`checksum_mismatch` names both digests; capital letters are no difference."""
    with pytest.raises(ProcessingError, match=DIGEST) as caught:
        put(files, "a.csv", sha256="0" * 64)
    assert caught.value.reason == "checksum_mismatch"
    assert list(files.parts.iterdir()) == []
    assert put(files, "a.csv", sha256=DIGEST.upper()) == DIGEST


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(files, code):
    """`storage_full`, and not a traceback."""

    class FullDisk:
        def write(self, data):
            raise OSError(code, os.strerror(code))

        def close(self):
            pass

    part = files.begin("a.csv", overwrite=False)
    part.stream.close()
    part.stream = FullDisk()
    with pytest.raises(ProcessingError) as caught:
        part.write(DATA)
    assert caught.value.reason == "storage_full"


def test_another_fault_of_the_disk_is_not_hidden(files):
    """What is no lack of room stays what it is."""
    part = files.begin("a.csv", overwrite=False)
    part.stream.close()
    with pytest.raises(ValueError, match="closed"):
        part.write(DATA)
    (files.parts).rename(files.root / "gone")
    with pytest.raises(FileNotFoundError):
        files.begin("b.csv", overwrite=False)


def test_a_short_write_is_completed(files):
    """An unbuffered write may take a part of the bytes only."""

    class Slow:
        def __init__(self):
            self.taken = b""

        def write(self, data):
            self.taken += bytes(data[:3])
            return min(3, len(data))

        def close(self):
            pass

    part = files.begin("a.csv", overwrite=False)
    part.stream.close()
    part.stream = Slow()
    part.write(DATA)
    assert part.stream.taken == DATA
    assert part.size == len(DATA)


def test_links_are_not_followed(files, tmp_path):
    """A link in the uploads could lead anywhere: it is neither read nor replaced."""
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    (files.uploads / "link.csv").symlink_to(secret)
    for attempt in (lambda: files.find("link.csv"), lambda: files.begin("link.csv", overwrite=True)):
        with pytest.raises(InvalidFormat) as caught:
            attempt()
        assert caught.value.reason == "invalid_filename"
    assert secret.read_text() == "secret"


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
    put(files, "a.csv", DATA, overwrite=True)
    assert files.version(files.find("a.csv")) != before


def test_leftovers_are_swept_at_start(files):
    """A crashed server's temporary files go; files that are whole stay."""
    (files.outputs / temporary_name("a.parquet", "1")).write_bytes(b"half")
    (files.parts / temporary_name("a.csv", "1")).write_bytes(b"half")
    (files.outputs / "a.parquet").write_bytes(b"whole")
    files.prepare()
    assert [path.name for path in files.outputs.iterdir()] == ["a.parquet"]
    assert list(files.parts.iterdir()) == []


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
    files.remove_output("[a]-1.parquet")
    assert sorted(path.name for path in files.outputs.iterdir()) == ["[a]-12.parquet", "a-1.parquet"]
