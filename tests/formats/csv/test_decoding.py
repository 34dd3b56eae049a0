"""Texts whose lines have several encodings, byte order marks anywhere, and texts that are cut inside a character."""

import codecs
import gzip
import itertools

import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from creemson.engine.run import columns, run
from creemson.errors import ProcessingError
from creemson.formats.csv import decoding
from creemson.formats.csv.decoding import decode, without_marks
from creemson.formats.detection.encodings import late_encoding
from creemson.model.query import Options, Query

BOM = codecs.BOM_UTF8
WORDS = ("Müller", "Größe", "café", "señor", "Århus", "naïve", "20 µg", "5 £", "“so”", "plain", "x")
UTF8_WORDS = (*WORDS, "日本", "Łódź", "😀", "Москва")


def read(folder, data, name="t.csv", **options):
    """The outcome and the rows of a job on some bytes."""
    source, target = folder / name, folder / "out.parquet"
    source.write_bytes(data)
    query = Query(filename=name, options=Options(**options))
    outcome = run(query, source, target, lambda _: None)
    return outcome, pl.read_parquet(target)


def counts(outcome):
    """Rows that were repaired, and rows that were left out."""
    issues = outcome.issues
    return (0, 0) if issues is None else (issues.repaired_rows, issues.unparsable_rows)


# --- lines of another encoding ---------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize(
    ("good", "bad"),
    [("Müller", "Größe"), ("Müller", "René"), ("😀", "café"), ("Müller", "a\xa0b"), ("日本", "señor")],
)
@pytest.mark.parametrize("rows", [10, 300])
def test_one_line_of_another_encoding_is_decoded_alone_and_told(tmp_path, good, bad, rows, place):
    """All other lines stay UTF-8, wherever the line stands."""
    names = [f"{good}{number}" for number in range(rows)]
    at = {"first": 0, "middle": rows // 2, "last": rows}[place]
    names.insert(at, bad)
    lines = [
        f"{name},{number}\n".encode("cp1252" if name == bad else "utf-8") for number, name in enumerate(names)
    ]
    outcome, frame = read(tmp_path, b"name,n\n" + b"".join(lines))
    assert frame["name"].to_list() == names
    assert frame["n"].to_list() == list(range(rows + 1))
    assert (outcome.reading.encoding, counts(outcome)) == ("utf-8", (1, 0))
    assert outcome.issues.examples[0].line == at + 2
    assert outcome.issues.examples[0].value == f"{bad},{at}"


def test_header_of_another_encoding_has_its_names_and_is_told(tmp_path):
    """A header is a line, too."""
    data = "Größe,n\n".encode("cp1252") + "".join(f"Müller{n},{n}\n" for n in range(9)).encode()
    outcome, frame = read(tmp_path, data)
    assert frame.columns == ["Größe", "n"]
    assert (counts(outcome), outcome.issues.examples[0].line) == ((1, 0), 1)


def test_line_of_another_encoding_inside_a_quoted_cell_does_not_end_it(tmp_path):
    """Decoding and splitting are independent of each other."""
    data = 'name,n\n"Mül\n'.encode() + "Größe\n".encode("cp1252") + 'ler",1\nMüller,2\n'.encode()
    outcome, frame = read(tmp_path, data)
    assert frame.rows() == [("Mül\nGröße\nler", 1), ("Müller", 2)]
    assert (counts(outcome), outcome.issues.examples[0].line) == ((1, 0), 3)


def test_strict_request_refuses_lines_of_another_encoding_and_accepts_a_legacy_file(tmp_path):
    """The encoding of a file is how it is written; a line in another one is a fault."""
    mixed = "name,n\nMüller,1\n".encode() + "Größe,2\n".encode("cp1252")
    source = tmp_path / "t.csv"
    query = Query(filename="t.csv", strict=True)
    source.write_bytes(mixed)
    with pytest.raises(ProcessingError, match="1 repaired row, and the request is strict") as error:
        run(query, source, tmp_path / "out", lambda _: None)
    assert error.value.details == (
        "line 3: 'Größe,2': has bytes that are not valid utf-8 and are read as cp1252",
    )
    for whole in ("name,n\nMüller,1\nGröße,2\n".encode("cp1252"), BOM + "name,n\nMüller,1\n".encode()):
        source.write_bytes(whole)
        assert run(query, source, tmp_path / "out", lambda _: None).issues is None


@given(
    st.lists(st.tuples(st.sampled_from(UTF8_WORDS), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(1, 400), max_size=5),
)
def test_decoding_line_by_line_changes_only_lines_that_are_not_utf8(words, end, cuts):
    """However the bytes are divided into blocks."""
    lines = [
        word.encode("cp1252") if is_legacy and word in WORDS else word.encode() for word, is_legacy in words
    ]
    data = b"".join(line + end for line in lines)
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    blocks = [data[first:last] for first, last in itertools.pairwise(at)]
    text = "".join(piece.text for piece in decode(blocks, "utf-8", fallback="cp1252"))
    assert without_marks(text).encode() == b"".join(word.encode() + end for word, _ in words)
    marked = [decoding.OTHER in line for line in text.splitlines()]
    assert marked == [not _is_utf8(line) for line in lines]


def _is_utf8(line):
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=60)
@given(data=st.data())
def test_table_with_lines_of_another_encoding_is_read_line_by_line(tmp_path_factory, data):
    """At least one in twenty lines that are not ASCII is UTF-8."""
    words = data.draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=30))
    legacy = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    lines = [
        f"{word},{number}\n".encode("cp1252" if is_legacy else "utf-8")
        for number, (word, is_legacy) in enumerate(zip(words, legacy, strict=True))
    ]
    assume(any(not line.isascii() and _is_utf8(line) for line in lines))
    outcome, frame = read(tmp_path_factory.mktemp("mixed"), b"name,n\n" + b"".join(lines))
    assert frame["name"].to_list() == words
    assert counts(outcome) == (sum(not _is_utf8(line) for line in lines), 0)


def late_lines(rows=20_000):
    """Lines of ASCII, more than are examined when a file is opened."""
    return [b"n,name\n", *(b"%d,name %d\n" % (n, n) for n in range(rows))]


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("has_mark", [False, True])
def test_first_bytes_of_another_encoding_far_behind_the_head_are_one_line(tmp_path, compress, has_mark):
    """The file stays UTF-8."""
    lines = late_lines()
    lines[15_000] = "14999,Müller\n".encode()
    lines[18_000] = "17999,Größe\n".encode("cp1252")
    outcome, frame = read(tmp_path, compress(BOM * has_mark + b"".join(lines)))
    assert frame["name"][14_999], frame["name"][17_999] == ("Müller", "Größe")
    assert (outcome.reading.encoding, counts(outcome)) == ("utf-8", (1, 0))
    assert outcome.issues.examples[0].line == 18_001


def test_legacy_file_whose_first_bytes_are_ascii_is_a_legacy_file(tmp_path):
    """It is decided as if its first bytes had other letters, and nothing is told."""
    lines = late_lines()
    lines[15_000:15_004] = [
        f"{n},{word}\n".encode("cp1250") for n, word in enumerate(("Łódź", "Kraków", "Gdańsk", "Poznań"))
    ]
    outcome, frame = read(tmp_path, b"".join(lines))
    assert frame["name"][14_999:15_003].to_list() == ["Łódź", "Kraków", "Gdańsk", "Poznań"]
    assert (outcome.reading.encoding, counts(outcome)) == ("cp1250", (0, 0))
    outcome, frame = read(tmp_path, b"".join(lines), encoding="utf-8")
    assert frame["name"][14_999] == "Łódź"
    assert (outcome.reading.encoding, counts(outcome)) == ("utf-8", (4, 0))


def test_encoding_is_decided_without_reading_more_than_necessary():
    """A thousand lines are enough."""
    block = "Größe\n".encode("cp1252") * 600

    def blocks():
        yield from (block, block)
        raise AssertionError("more was read")

    assert late_encoding(blocks()) == ("cp1252", None)


# --- texts that are cut ----------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(UTF8_WORDS), min_size=3, max_size=9), st.integers(1, 200))
@example(["Müller"] * 3, 1)
def test_text_that_is_cut_anywhere_stays_utf8(words, cut):
    """Only the character that is cut is missing."""
    text = "name,n\n" + "".join(f"{word},{number}\n" for number, word in enumerate(words))
    data = text.encode()[:-cut]
    assume(not data.isascii())
    encoding = decoding_of(data)
    whole = data.decode(errors="ignore")
    if not whole.isascii():
        assert encoding == "utf-8"
        found = "".join(piece.text for piece in decode([data], "utf-8"))
        assert without_marks(found) == whole
        assert (decoding.CUT in found) == (whole.encode() != data)


def decoding_of(data):
    """The encoding of a whole file."""
    from creemson.formats.detection.encodings import encoding_of

    return encoding_of(data, is_whole=True)[0]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"name,n\nfa\xc3", "utf-8"), (b"name,n\n1,\xc3", "utf-8"), (b"name,n\n1,\xf0\x9f", "utf-8"),
        (b"name,n\n1,\xe6\x97", "utf-8"), (b"name,n\n1,pap\xe9", "cp1252"), (b"name,n\n1,Fu\xdf", "cp1252"),
        (b"name,n\n1,AMANH\xc3", "cp1252"), (b"name,n\n1,pap\xe9\n", "cp1252"),
        ("é,n\n1,fa".encode() + b"\xc3", "utf-8"),
    ],
)  # fmt: skip
def test_last_byte_of_a_text_is_a_letter_or_begins_a_character(data, encoding):
    """A file without any other letters but an é at its end was not cut."""
    assert decoding_of(data) == encoding


def test_character_that_is_cut_is_left_out_and_told(tmp_path):
    """No letter is invented from half a character."""
    outcome, frame = read(tmp_path, "name,n\nMüller,1\n2,Mü".encode()[:-1])
    assert frame.rows()[0] == ("Müller", "1")
    assert frame.rows()[1] == ("2", "M")
    assert counts(outcome) == (1, 0)
    assert outcome.issues.examples[0].why == "ends inside a character, which is left out"


# --- byte order marks ------------------------------------------------------------------------------------


def test_header_behind_a_late_byte_order_mark_is_left_out_and_told(tmp_path):
    """Files that were joined; columns keep their types."""
    outcome, frame = read(tmp_path, BOM + b"a,b\n1,2\n" + BOM + b"a,b\n3,4\n")
    assert (frame.rows(), frame.dtypes) == ([(1, 2), (3, 4)], [pl.Int64, pl.Int64])
    assert (counts(outcome), outcome.issues.examples[0].line) == ((0, 1), 3)


def test_cell_behind_a_late_byte_order_mark_is_the_number_in_it(tmp_path):
    """A byte order mark is no character."""
    outcome, frame = read(tmp_path, BOM + b"a,b\n1,x\n" + BOM + b"2,y\n3,z\n")
    assert frame.rows() == [(1, "x"), (2, "y"), (3, "z")]
    assert (counts(outcome), outcome.issues.examples[0].line) == ((1, 0), 3)


@pytest.mark.parametrize("line", [b"n,name\n", b"7,seven\n"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_byte_order_mark_far_behind_the_head_is_found(tmp_path, line, compress):
    """Also where polars has read the file before."""
    lines = late_lines()
    lines.insert(18_000, BOM + line)
    outcome, frame = read(tmp_path, compress(b"".join(lines)))
    assert frame.dtypes == [pl.Int64, pl.String]
    assert frame.height == 20_000 + (line != b"n,name\n")
    assert counts(outcome) == ((0, 1) if line == b"n,name\n" else (1, 0))
    assert outcome.issues.examples[0].line == 18_001


@given(
    st.lists(st.tuples(st.sampled_from(UTF8_WORDS), st.integers(0, 99)), min_size=2, max_size=8),
    st.lists(st.integers(0, 15), min_size=1, max_size=3),
)
def test_byte_order_mark_before_any_cell_changes_no_cell(tmp_path_factory, rows, places):
    """It is removed, and each line that has one is told."""
    cells = [["name", "n"], *([word, str(number)] for word, number in rows)]
    marked = {place for place in places if 0 < place < 2 * len(cells)}
    assume(marked)
    text = "\n".join(
        ",".join("\ufeff" * (2 * row + column in marked) + cell for column, cell in enumerate(line))
        for row, line in enumerate(cells)
    )
    outcome, frame = read(tmp_path_factory.mktemp("marks"), f"{text}\n".encode())
    assert (frame.columns, frame.rows()) == (["name", "n"], rows)
    assert counts(outcome) == (len({place // 2 for place in marked}), 0)


@pytest.mark.parametrize("marks", [1, 2, 3])
def test_byte_order_marks_at_the_beginning_are_not_told(tmp_path, marks):
    """They are how the file is written."""
    outcome, frame = read(tmp_path, BOM * marks + b"a,b\n1,2\n")
    assert (frame.columns, frame.rows(), outcome.issues) == (["a", "b"], [(1, 2)], None)
    source = tmp_path / "t.csv"
    assert [column.name for column in columns(source, "t.csv").columns] == ["a", "b"]
