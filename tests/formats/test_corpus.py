"""A corpus of CSV files as they occur in practice: how each must be read, cell by cell.

Where two results are defensible, the one that loses nothing is expected.
"""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import attrs
import polars as pl
import pytest

from creemson.engine.run import run
from creemson.errors import ProcessingError
from creemson.model.query import Query

AB = ("id", "name", "size")
ROWS = [(1, "Ash", 2.5), (2, "Birch", 3.5), (3, "Cedar", 4.5)]
HEAD = "id,name,size\n"
BODY = "1,Ash,2.5\n2,Birch,3.5\n3,Cedar,4.5\n"
GERMAN = "Nr;Straße;Stück\n" + "".join(
    f"{n};{street};{n}\n"
    for n, street in enumerate(["Größenweg", "Jägerstraße", "Mühlgäßchen", "Über den Höfen"], 1)
)
GERMAN_ROWS = [
    (n, street, n)
    for n, street in enumerate(["Größenweg", "Jägerstraße", "Mühlgäßchen", "Über den Höfen"], 1)
]
RUSSIAN = ["Москва и область", "Санкт-Петербург", "Нижний Новгород", "Великий Устюг", "Ростов на Дону"]
JAPANESE = ["東京都千代田区", "大阪府大阪市", "北海道札幌市", "これはカタカナです", "ひらがなのなまえ"]
CHINESE = ["北京市朝阳区", "上海市浦东新区", "广东省广州市", "这是中文的名字", "我们的国家很大"]
POLISH = ["Łódź i okolice", "Żółta gęś", "Święty źrebak", "Gdańsk i Gdynia", "Dąb, więc brzęk"]


@attrs.frozen
class Case:
    """A file and the expected column names, rows, reading fields and issue counts."""

    content: str | bytes
    columns: tuple = AB
    rows: list | None = attrs.field(factory=lambda: ROWS)  # None: only the counts are checked
    reading: dict = attrs.field(factory=dict)
    issues: dict = attrs.field(factory=dict)


def texts(words, encoding, word="name"):
    lines = "".join(f"{n};{text}\n" for n, text in enumerate(words, 1))
    return Case((f"id;{word}\n" + lines).encode(encoding), ("id", word), list(enumerate(words, 1)))


def column(*cells, values=None, **more):
    """A CSV with the column under test next to a counter."""
    lines = "".join(f"{n};{cell}\n" for n, cell in enumerate(cells, 1))
    expected = list(enumerate(cells if values is None else values, 1))
    return Case("n;value\n" + lines, ("n", "value"), expected, **more)


CASES = {
    "plain": Case(HEAD + BODY, reading={"delimiter": ",", "header": 1}),
    "names_like_patterns": Case(
        "^a$,^.*$,*\n" + "1,,\n" * 60 + "2,n/a,\nx,3,\n" + "4,5,\n" * 60,
        ("^a$", "^.*$", "*"),
        [(1, None, None)] * 60 + [(2, None, None), (None, 3, None)] + [(4, 5, None)] * 60,
        issues={"unparsable_cells": 1},
    ),
    "preamble": Case("Trees of the park\nmeasured in May\n" + HEAD + BODY, reading={"skip_rows": 2}),
    "preamble_delimited": Case("Trees,,\n,,\n" + HEAD + BODY, reading={"skip_rows": 2}),
    "preamble_empty_line": Case("Trees of the park\n\n" + HEAD + BODY, reading={"skip_rows": 2}),
    "comments": Case("# made by hand\n# in May\n" + HEAD + BODY, reading={"skip_rows": 2}),
    "excel_sep": Case(
        "sep=;\n" + (HEAD + BODY).replace(",", ";"), reading={"delimiter": ";", "skip_rows": 1}
    ),
    "no_trailing_newline": Case((HEAD + BODY).rstrip()),
    "double_trailing_newline": Case(HEAD + BODY + "\n"),
    "empty_lines": Case(HEAD + BODY.replace("\n", "\n\n")),
    "crlf": Case((HEAD + BODY).replace("\n", "\r\n"), reading={"line_end": "\r\n"}),
    "cr": Case((HEAD + BODY).replace("\n", "\r"), reading={"line_end": "\r"}),
    "mixed_line_ends": Case("id,name,size\r\n1,Ash,2.5\n2,Birch,3.5\r\n3,Cedar,4.5\n"),
    "header_only": Case(HEAD, rows=[]),
    "one_row": Case(HEAD + "1,Ash,2.5\n", rows=ROWS[:1]),
    "one_column": Case("n\n1\n2\n3\n", ("n",), [(1,), (2,), (3,)]),
    "semicolon": Case((HEAD + BODY).replace(",", ";"), reading={"delimiter": ";"}),
    "tab": Case((HEAD + BODY).replace(",", "\t"), reading={"delimiter": "\t"}),
    "pipe": Case((HEAD + BODY).replace(",", "|"), reading={"delimiter": "|"}),
    "tilde": Case((HEAD + BODY).replace(",", "~"), reading={"delimiter": "~"}),
    "space": Case((HEAD + BODY).replace(",", " "), reading={"delimiter": " "}),
    "comma_space": Case((HEAD + BODY).replace(",", ", ")),
    "two_pipes": Case((HEAD + BODY).replace(",", "||"), reading={"delimiter": "||"}),
    "two_colons": Case((HEAD + BODY).replace(",", "::"), reading={"delimiter": "::"}),
    "single_quotes": Case(
        "id,name\n1,'Ash, old'\n2,'Birch, new'\n3,'O''Hara, old'\n",
        ("id", "name"),
        [(1, "Ash, old"), (2, "Birch, new"), (3, "O'Hara, old")],
        {"quote": "'"},
    ),
    "doubled_quotes": Case(
        'id,name\n1,"the ""old"" ash"\n2,"a, b"\n', ("id", "name"), [(1, 'the "old" ash'), (2, "a, b")]
    ),
    "escaped_quotes": Case(
        'id,name\n1,"the \\"old\\" ash, big"\n2,"a, b"\n',
        ("id", "name"),
        [(1, 'the "old" ash, big'), (2, "a, b")],
        {"escape": "\\"},
    ),
    "quoted_newlines": Case(
        'id,name\n1,"two\nlines"\n2,one\n', ("id", "name"), [(1, "two\nlines"), (2, "one")]
    ),
    "missing_cells": Case(
        HEAD + "1,Ash,2.5\n2,Birch\n3,Cedar,4.5\n",
        rows=[ROWS[0], (2, "Birch", None), ROWS[2]],
        issues={"padded_rows": 1},
    ),
    "extra_cells": Case(HEAD + "1,Ash,2.5\n2,Birch,3.5,9\n3,Cedar,4.5\n", issues={"cut_rows": 1}),
    "unescaped_quotes": Case(
        'id,name,size\n1,"the "old" ash",2.5\n2,"Birch",3.5\n3,"Cedar",4.5\n',
        rows=[(1, 'the "old" ash', 2.5), *ROWS[1:]],
        issues={"repaired_rows": 1},
    ),
    "wrong_delimiter": Case(HEAD + "1,Ash,2.5\n2;Birch;3.5\n3,Cedar,4.5\n", issues={"repaired_rows": 1}),
    "no_header": Case("1,Ash,2.5\n2,Birch,3.5\n3,Cedar,4.5\n", None, reading={"header": 0}),
    "utf8_bom": Case((HEAD + BODY).encode("utf-8-sig")),
    "utf16_le_bom": Case(b"\xff\xfe" + (HEAD + BODY).encode("utf-16-le")),
    "utf16_be_bom": Case(b"\xfe\xff" + (HEAD + BODY).encode("utf-16-be")),
    "utf16_le": Case((HEAD + BODY).encode("utf-16-le")),
    "utf16_be": Case((HEAD + BODY).encode("utf-16-be")),
    "windows_1252": Case(GERMAN.encode("cp1252"), ("Nr", "Straße", "Stück"), GERMAN_ROWS),
    "cp1251": texts(RUSSIAN, "cp1251"),
    "koi8_r": texts(RUSSIAN, "koi8-r"),
    "shift_jis": texts(JAPANESE, "shift-jis"),
    "gb18030": texts(CHINESE, "gb18030"),
    "iso_8859_2": texts(POLISH, "iso-8859-2"),
    "emoji_and_right_to_left": texts(["🌲 fir", "שלום", "سلام"], "utf-8", "имя"),
    "nul_in_a_cell": Case(HEAD + "1,A\0sh,2.5\n2,Birch,3.5\n", rows=ROWS[:2], issues={"repaired_rows": 1}),
    "footnote": Case(
        HEAD + BODY + "Source: the gardener\n",
        rows=None,
        issues={"padded_rows": 1},
    ),
    "two_header_rows": Case(
        "tree,tree,size\nnumber,name,in m\n" + BODY,
        ("tree number", "tree name", "size in m"),
        reading={"header": 2},
    ),
    "three_header_rows": Case(
        HEAD * 3 + BODY, tuple(" ".join([name] * 3) for name in AB), reading={"header": 3}
    ),
    "another_table_with_more_columns": Case(
        HEAD + BODY + "id,name,size,age\n1,Oak,3.5,9\n", issues={"unparsable_rows": 1}
    ),
    "another_table_with_fewer_columns": Case(
        "id,name,size,age\n1,Ash,2.5,7\n2,Oak,3.5,8\n3,Fir,4.5,9\nid,name,size\n1,Elm,1.5\n",
        ("id", "name", "size", "age"),
        [(1, "Ash", 2.5, 7), (2, "Oak", 3.5, 8), (3, "Fir", 4.5, 9)],
        issues={"unparsable_rows": 1},
    ),
    "the_same_header_again": Case(HEAD + BODY + HEAD + BODY, rows=ROWS + ROWS, issues={"unparsable_rows": 1}),
    "a_missing_delimiter": Case(
        HEAD + "1,Ash,2.5\n2Birch,3.5\n3,Cedar,4.5\n" + BODY * 40,
        rows=None,
        issues={"padded_rows": 1},
    ),
    "an_extra_delimiter": Case(
        HEAD + "1,Ash,2.5\n2,,Birch,3.5\n3,Cedar,4.5\n" + BODY * 50,
        rows=None,
        issues={"cut_rows": 1, "unparsable_cells": 1},
    ),
    "a_missing_delimiter_in_the_header": Case(
        "idname,size\n" + BODY,
        ("column_1", "idname", "size"),  # as R writes the names of rows
        [(1, "Ash", 2.5), (2, "Birch", 3.5), (3, "Cedar", 4.5)],
    ),
    "an_extra_delimiter_in_the_header": Case("id,,name,size\n" + BODY),
    "a_quote_before_a_cell": Case(
        HEAD + '1,"Ash,2.5\n' + BODY[10:], rows=[(1, '"Ash', 2.5), *ROWS[1:]], issues={"repaired_rows": 1}
    ),
    "a_quote_in_a_cell": Case(
        HEAD + '1,A"sh,2.5\n' + BODY[10:], rows=[(1, 'A"sh', 2.5), *ROWS[1:]], issues={"repaired_rows": 1}
    ),
    "a_quote_after_a_cell": Case(
        HEAD + '1,Ash",2.5\n' + BODY[10:], rows=[(1, 'Ash"', 2.5), *ROWS[1:]], issues={"repaired_rows": 1}
    ),
    "a_quote_before_a_quoted_cell": Case(
        HEAD + '1,""Ash, big",2.5\n2,"Birch, old",3.5\n3,Cedar,4.5\n',
        rows=[(1, '"Ash, big', 2.5), (2, "Birch, old", 3.5), ROWS[2]],
        issues={"repaired_rows": 1},
    ),
    "a_quote_before_the_first_cell": Case(
        HEAD + "1,Ash,2.5\n" + '"2,Birch,3.5\n3,Cedar,4.5\n',
        ("id", "name", "size"),
        [("1", "Ash", 2.5), ('"2', "Birch", 3.5), ("3", "Cedar", 4.5)],
        issues={"repaired_rows": 1},
    ),
    "a_quote_before_the_header": Case('"' + HEAD + BODY, ('"id', "name", "size")),
    "no_escape": Case(
        HEAD + '1,"Ash 48"","2.5"\n2,"Birch","3.5"\n3,"Cedar","4.5"\n',
        rows=[(1, 'Ash 48"', 2.5), *ROWS[1:]],
        issues={"repaired_rows": 1},
    ),
    "the_same_name_twice": Case("id,id,size\n" + BODY, ("id", "id_duplicated_0", "size")),
    "a_column_without_a_name": Case("id,,size\n" + BODY, ("id", "column_2", "size")),
    "blanks_around_cells": Case(
        "id , name , size \n 1 , Ash , 2.5 \n 2 , Birch , 3.5 \n",
        AB,
        [(1, "Ash ", 2.5), (2, "Birch ", 3.5)],
    ),
    "delimiters_at_the_ends": Case(HEAD + BODY.replace("\n", ",\n")),
    "days_first": column("13.05.2024", "01.06.2024", values=[date(2024, 5, 13), date(2024, 6, 1)]),
    "months_first": column("05/13/2024", "06/01/2024", values=[date(2024, 5, 13), date(2024, 6, 1)]),
    "iso_days": column("2024-05-13", "2024-06-01", values=[date(2024, 5, 13), date(2024, 6, 1)]),
    "moments": column(
        "2024-05-13 10:30",
        "2024-06-01 23:59",
        values=[datetime(2024, 5, 13, 10, 30), datetime(2024, 6, 1, 23, 59)],
    ),
    "moments_with_a_zone": column(
        "2024-05-13T10:30:00+02:00",
        "2024-06-01T00:00:00Z",
        values=[datetime(2024, 5, 13, 8, 30, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)],
    ),
    "times": column("10:30", "23:59", values=[time(10, 30), time(23, 59)]),
    "days_in_two_ways": column("2024-05-13", "13.05.2024", "x"),
    "days_that_do_not_exist": column("2024-02-30", "2024-02-31"),
    "short_years": column("13.05.24", "01.06.24"),
    "thousands": column("1,234,567", "2,345,678"),
    "thousands_and_decimal_comma": column("1.234,50", "12,25", values=[1234.5, 12.25]),
    "amounts": column("$1.50", "$22.75"),
    "plus_signs": column("+4915112345", "+4915154321"),
    "negative": column("-5", "5", values=[-5, 5]),
    "huge": column("9" * 20, "1", values=[Decimal(10**20 - 1), Decimal(1)]),
    "too_huge": column("9" * 40, "1"),
    "one_bad_cell_of_many": column(
        *["1"] * 150, "x7", values=[1] * 150 + [None], issues={"unparsable_cells": 1}
    ),
    "one_bad_cell_of_few": column("1", "x7", "3"),
    "dashes_for_missing": column("1.5", "-", "3.5", values=[1.5, None, 3.5]),
    "leading_zeros": column("00123", "01234", "99999"),
    "ambiguous_days": column("01/02/2024", "03/04/2024", "05/06/2024"),
    "yes_and_no": column("yes", "no", "yes"),
    "truth": column("true", "false", "true", values=[True, False, True]),
    "zero_and_one": column("0", "1", "1", values=[0, 1, 1]),
    "decimal_comma": column("1,5", "2,25", "3,75", values=[1.5, 2.25, 3.75], reading={"decimal": ","}),
    "percent": column("5%", "10%", "15%"),
    "exponents": column("1e3", "2.5e-2", "-1E2", values=[1000.0, 0.025, -100.0]),
    "missing_words": column("1", "NA", "3", values=[1, None, 3]),
    "namibia": column("NA", "DE", "FR"),
    "long_cell": column("x" * 100_000, "y", "z"),
}


def load(case, tmp_path, **query):
    """The table of a case, and the outcome."""
    source, target = tmp_path / "case.csv", tmp_path / "out.parquet"
    source.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    outcome = run(Query(filename="case.csv", **query), source, target, lambda on_progress: None)
    return pl.read_parquet(target), outcome


def differences(frame, case):
    """Where a table differs from the case, as text."""
    if case.columns is not None and tuple(frame.columns) != case.columns:
        yield f"columns: {tuple(frame.columns)} instead of {case.columns}"
    if case.rows is None:
        return
    if frame.height != len(case.rows):
        yield f"{frame.height} rows instead of {len(case.rows)}"
    for number, (got, expected) in enumerate(zip(frame.rows(), case.rows, strict=False), 1):
        if [(type(cell), cell) for cell in got] != [(type(cell), cell) for cell in expected]:
            yield f"row {number}: {str(got)[:200]} instead of {str(expected)[:200]}"


@pytest.mark.parametrize("name", CASES)
def test_case_without_options_is_read_as_expected(name, tmp_path):
    """Every cell is what a person would read there, and repairs are reported."""
    case = CASES[name]
    frame, outcome = load(case, tmp_path)
    assert list(differences(frame, case)) == []
    assert {field: getattr(outcome.reading, field) for field in case.reading} == case.reading
    assert {count: getattr(outcome.issues, count) for count in case.issues} == case.issues


@pytest.mark.parametrize("name", CASES)
def test_case_in_strict_mode_gives_the_same_table_or_an_error(name, tmp_path):
    """The error says what would have to be repaired."""
    case = CASES[name]
    if not any(case.issues.values()):
        frame, _ = load(case, tmp_path, strict=True)
        assert list(differences(frame, case)) == []
        return
    with pytest.raises(ProcessingError) as caught:
        load(case, tmp_path, strict=True)
    assert caught.value.reason == "unreadable_file"
    assert caught.value.details
