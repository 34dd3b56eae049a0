"""Files on disk: safe names and paths."""

import contextlib
import hashlib
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.errors import InvalidFormat, ProcessingError
from creemson.model.filenames import MAX_NAME_BYTES, check_name
from creemson.storage.folder.files import HINT_CANDIDATES, Files
from creemson.storage.names import is_temporary, temporary_name

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
def test_unsafe_name_is_refused_as_invalid_filename(name):
    """Names that could leave the folder or are special on another system."""
    with pytest.raises(InvalidFormat) as caught:
        check_name(name)
    assert caught.value.reason == "invalid_filename"


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_plain_name_is_accepted_and_makes_a_file(files, name):
    """Unicode and unusual punctuation are allowed."""
    put(files, name)
    assert files.find(name).read_bytes() == DATA


@given(st.text(st.characters(), max_size=300))
def test_checked_name_is_one_safe_path_component(name):
    """Any text that passes the check stays in its folder."""
    try:
        check_name(name)
    except InvalidFormat:
        return
    assert "/" not in name
    assert name not in (".", "..")
    assert 1 <= len(os.fsencode(name)) <= MAX_NAME_BYTES
    assert not any(unicodedata.category(char) == "Cc" for char in name)


def test_symlink_in_uploads_is_refused(files, tmp_path):
    """A link could lead anywhere."""
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    (files.uploads / "link.csv").symlink_to(secret)
    with pytest.raises(InvalidFormat) as caught:
        files.find("link.csv")
    assert caught.value.reason == "invalid_filename"


def test_folder_of_that_name_is_not_found(files):
    """A folder is not a file."""
    (files.uploads / "folder").mkdir()
    with pytest.raises(ProcessingError) as caught:
        files.find("folder")
    assert caught.value.reason == "file_not_found"


def test_missing_file_error_suggests_the_nearest_name(files):
    """Helps with typing errors."""
    put(files, "flights.csv")
    with pytest.raises(ProcessingError, match=r"Did you mean 'flights\.csv'"):
        files.find("flihgts.csv")
    with pytest.raises(ProcessingError, match="Upload it first"):
        files.find("something else")


def test_common_extension_does_not_make_names_similar(files):
    """Of files with the same stem, the one with the most similar extension is suggested."""
    for name in ("huge.csv", "flights.xlsx", "flights.csv", "flights.parquet"):
        put(files, name)
    with pytest.raises(ProcessingError, match="Upload it first"):
        files.find("nope.csv")
    with pytest.raises(ProcessingError, match=r"Did you mean 'flights\.csv'"):
        files.find("flights.cvs")
    with pytest.raises(ProcessingError, match=r"Did you mean 'flights\."):
        files.find("flights")


def test_missing_file_in_a_large_folder_reads_a_bounded_number_of_entries(files, monkeypatch):
    """The event loop waits for it; all 100,000 names of a folder take 50 ms."""
    for number in range(3 * HINT_CANDIDATES):
        put(files, f"{number}.csv")
    read = []
    scandir = os.scandir

    @contextlib.contextmanager
    def counted(folder):
        with scandir(folder) as entries:
            yield (read.append(entry.name) or entry for entry in entries)

    monkeypatch.setattr(os, "scandir", counted)
    monkeypatch.setattr(os, "listdir", None)
    with pytest.raises(ProcessingError, match="There is no file"):
        files.find("x.csv")
    assert len(read) == HINT_CANDIDATES


def test_prepare_removes_temporary_outputs_only(files):
    """Half-written outputs of a crashed server go; complete files and unfinished uploads stay."""
    (files.outputs / temporary_name("a.parquet", "1")).write_bytes(b"half")
    (files.parts / temporary_name("a.csv", "1")).write_bytes(b"half")
    (files.outputs / "a.parquet").write_bytes(b"whole")
    files.prepare()
    assert [path.name for path in files.outputs.iterdir()] == ["a.parquet"]
    assert len(list(files.parts.iterdir())) == 1


def test_prepare_removes_temporary_folders_of_earlier_versions(files):
    folder = files.outputs / temporary_name("a.xlsx", "1")
    folder.mkdir()
    (folder / "sheet.xml").touch()
    files.prepare()
    assert list(files.outputs.iterdir()) == []


@given(st.sampled_from(GOOD_NAMES), st.integers(0, 99))
def test_temporary_name_is_recognised_and_short(name, attempt):
    """Temporary names are distinguishable from files and fit wherever the file's name fits."""
    temporary = temporary_name(name, str(attempt))
    assert is_temporary(temporary)
    assert len(temporary) < 64


def test_output_is_found_under_its_other_formats(files):
    """`X.csv` finds the stored `X.parquet`; other names do not."""
    formats = ("parquet", "csv", "xlsx")
    (files.outputs / "x-1.parquet").write_bytes(b"")
    assert files.find_output_of("x-1.csv", formats) == files.outputs / "x-1.parquet"
    assert files.find_output_of("x-1.exe", formats) is None
    assert files.find_output_of("y-1.csv", formats) is None


def test_remove_output_removes_its_other_formats_too(files):
    """Other outputs and names with special characters are not affected."""
    for name in ("[a]-1.parquet", "[a]-1.csv", "a-1.parquet", "[a]-12.parquet"):
        (files.outputs / name).write_bytes(b"")
    for path in files.output_files("[a]-1.parquet", ("parquet", "csv")):
        path.unlink(missing_ok=True)
    assert sorted(path.name for path in files.outputs.iterdir()) == ["[a]-12.parquet", "a-1.parquet"]


LETTERS = st.text(st.sampled_from("aüñéỗ각힣漢a\u0308\u0327\u0301\u212b\ufb01Ω"), min_size=1, max_size=12)


@given(
    name=LETTERS,
    on_disk=st.sampled_from(["NFC", "NFD", "as it is"]),
    asked=st.sampled_from(["NFC", "NFD", "as it is"]),
)
def test_name_is_found_in_every_spelling(tmp_path_factory, name, on_disk, asked):
    """Two names that look alike are one file, wherever it comes from; also a mixture of both forms."""
    files = Files(tmp_path_factory.getbasetemp() / "spellings")
    files.prepare()
    for path in files.uploads.iterdir():
        path.unlink()

    def spelled(form):
        return f"{name if form == 'as it is' else unicodedata.normalize(form, name)}.csv"

    put(files, spelled(on_disk))
    assert files.find(spelled(asked)) == files.uploads / spelled(on_disk)
    assert files.uploads_named(check_name(spelled(asked))) == [files.uploads / spelled(on_disk)]
    put(files, spelled("NFC"))
    assert files.find(spelled(asked)) == files.uploads / spelled("NFC")


def test_long_name_is_not_found_although_its_other_form_is_too_long(files):
    """The decomposed form has more bytes than a file name may have."""
    with pytest.raises(ProcessingError) as caught:
        files.find("ü" * 127)
    assert caught.value.reason == "file_not_found"
