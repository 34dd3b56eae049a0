"""What the command line prints of a profile: on wide and narrow terminals, with Unicode and with ASCII only."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from creemson.display.profile import show_profile
from creemson.display.tables import show_result
from creemson.model.results import ColumnProfile, Histogram, OutputData

NOTHING = dict.fromkeys(("min", "max", "mean", "std", "quantiles", "distinct"))


def column(name, dtype="Int64", nulls=0, **figures):
    return ColumnProfile(column=name, dtype=dtype, nulls=nulls, **{**NOTHING, **figures})


def ordered(name, dtype, low, middle, high, counts, **figures):
    quantiles = {"0.25": low, "0.5": middle, "0.75": high}
    histogram = Histogram(edges=tuple(range(len(counts) + 1)), counts=tuple(counts))
    return column(name, dtype, min=low, max=high, quantiles=quantiles, histogram=histogram, **figures)


MASS = ordered(
    "mass", "Float64", 2.5, 4.25, 1234567.8, range(20), nulls=10, mean=100.125, std=3.14159265, distinct=94
)
SPECIES = column(
    "species",
    "String",
    nulls=10,
    min="Adelie",
    max="Gentoo",
    distinct=2,
    top=(("Adelie", 150), ("Gentoo", 40)),
)
PROFILE = [
    MASS,
    SPECIES,
    column("key", "String", min="a", max="z", distinct=200, top=(("a", 1), ("b", 1))),
    ordered("day", "Date", "2024-01-01", "2024-02-01", "2024-12-31", [200]),
    ordered("when", "Datetime(time_unit='us')", "2024-01-01T00:00:00", "2024-01-01T10:30:00", "2024-01-02T00:00:00", [200]),
    ordered("lasts", "Duration(time_unit='us')", 0.0, 1.5, 60.0, [200]),
    ordered("tags", "List(String)", 0, 1, 4, [200]),
    ordered("odd", "Float64", 0.0, 1.0, 2.0, [150], distinct=3),
    column("nothing", "Null", nulls=200),
    column("some", "Struct({'a': Int64})", nulls=1),
    column("日本語" * 20, "Boolean", min=False, max=True, distinct=2, top=((True, 199), (False, 1))),
    column("[red]\x1b[31m", "String", min="\x1b", max="\x1b", distinct=1, top=(("[b]\x1b", 200),)),
]  # fmt: skip


@pytest.fixture
def locale(monkeypatch):
    """A terminal that supports everything, whatever the environment of the tests."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


def printed(show, *arguments, width=80, encoding="utf-8"):
    """The printed lines, without trailing spaces."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(Console(file=stream, width=width), *arguments)
    stream.flush()
    lines = stream.buffer.getvalue().decode(encoding).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


def line_of(name, **options):
    """The line of one column, shown alone, with single spaces."""
    profile = [one for one in PROFILE if one.column.startswith(name)]
    _, line = printed(show_profile, profile, 200, **options)
    return " ".join(line.split())


def test_profile_has_a_line_for_each_column(locale):
    """Name, type, share of empty cells, a chart, and as many statistics as fit."""
    lines = printed(show_profile, PROFILE, 200)
    assert len(lines) == 1 + len(PROFILE)
    assert lines[0].split() == ["column", "type", "empty", "chart", "values"]
    assert line_of("mass") == "mass Float64 5 % ▁▂▂▃▄▅▆▇██ 2.5 to 1234568, median 4.25, mean 100.12"
    assert line_of("species") == "species String 5 % █▃ Adelie 75 %, Gentoo 20 %, 2 distinct"


def test_profile_on_a_wide_terminal_shows_more(locale):
    """All bins, a bar for the empty cells, and more figures."""
    assert line_of("mass", width=140) == (
        "mass Float64 5 % ▎ ▁▁▂▂▃▃▃▄▄▅▅▆▆▆▇▇███ 2.5 to 1234568, median 4.25, mean 100.12, std 3.1416, 94 distinct"
    )
    assert line_of("species", width=140).startswith("species String 5 % ▎ █▃ ")
    assert line_of("nothing", width=140) == "nothing Null 100 % █████"


def test_profile_on_a_narrow_terminal_truncates_names_first(locale):
    """The figures are kept as long as possible."""
    lines = printed(show_profile, PROFILE, 200, width=60)
    assert "2.5 to 1234568" in lines[1]
    assert lines[-2].split()[:2] == ["日本…語", "Boolean"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("key", "key String 0 % a to z, 200 distinct"),  # bars of values that occur once would be useless
        ("day", "day Date 0 % █ 2024-01-01 to 2024-12-31, median 2024-02-01"),
        ("when", "when Datetime 0 % █ 2024-01-01 to 2024-01-02, median 2024-01-01 10:30:00"),
        ("lasts", "lasts Duration 0 % █ 0 to 60 s, median 1.5 s"),
        ("tags", "tags List 0 % █ lengths 0 to 4, median 1"),
        ("odd", "odd Float64 0 % █ 0 to 2, median 1, 50 not finite, 3 distinct"),
        ("nothing", "nothing Null 100 %"),
        ("some", "some Struct <1 %"),
        ("日本語", "日本語日本…日本語 Boolean 0 % █▁ true >99 %, false <1 %, 2 distinct"),
        (
            "[red]",
            "[red]�[31m String 0 % █ [b]� 100 %, 1 distinct",
        ),  # no markup, no terminal control characters
    ],
)
def test_profile_line_has_figures_that_fit_the_type(locale, name, words):
    """Missing figures are omitted."""
    assert line_of(name, width=99) == words


@pytest.mark.parametrize(
    ("environment", "encoding"),
    [
        ({"TERM": "dumb"}, "utf-8"),
        ({"LANG": "C"}, "utf-8"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "utf-8"),  # what Python reports for such a locale
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, "utf-8"),
        ({}, "ascii"),
        ({}, "latin-1"),
    ],
)
def test_output_on_an_ascii_terminal_is_ascii_only(locale, environment, encoding):
    """Pictures and frames are ASCII; characters the encoding lacks become question marks."""
    for name, value in environment.items():
        locale.setenv(name, value)
    assert line_of("mass", encoding=encoding).startswith("mass Float64 5 % .::-=+*#@@ 2.5 to")
    assert line_of("species", encoding=encoding, width=140).startswith("species String 5 % # @- Adelie")
    profile = [one for one in PROFILE if one.column.isascii() and one.column.isprintable()]
    assert all(line.isascii() for line in printed(show_profile, profile, 200, encoding=encoding))
    data = OutputData(
        rows=3, columns=("a", *"bcdefghijklmnopqrst"), dtypes=("Int64",) * 20, filename="o", final_filename_csv="o",
        final_filename_excel="o", elapsed_s=0.0, cached=False, preview=(("x" * 99,) * 20,),
    )  # fmt: skip
    lines = printed(show_result, data, encoding=encoding)
    assert all(line.isascii() for line in lines)
    assert "... 18 more" in lines[1]


@pytest.mark.parametrize(
    "environment", [{"LANG": "en_US.UTF-8"}, {"LC_CTYPE": "en_US.UTF-8", "LANG": "C"}, {}]
)
def test_profile_on_other_terminals_uses_block_characters(locale, environment):
    """Block characters are the default."""
    for name, value in environment.items():
        locale.setenv(name, value)
    assert "█" in line_of("mass")


def test_profile_without_columns_or_rows_is_no_error(locale):
    """An empty profile is shown without an error."""
    assert len(printed(show_profile, [], 0)) <= 1
    assert printed(show_profile, [column("a")], 0)[1].split() == ["a", "Int64", "0", "%"]


def test_profile_of_forty_columns_is_readable_in_eighty_characters():
    """One line each; names that differ at their ends differ when they are shortened, ranges are not cut."""
    profile = [
        column(
            f"scheduled_arrival_time_{number}", "Datetime(time_unit='us')", min="2013-01-01T05:17:00",
            max="2013-12-31T23:59:00", distinct=5,
        )
        for number in range(40)
    ]  # fmt: skip
    lines = printed(show_profile, profile, 200, width=80)
    assert len(lines) == 41
    assert max(map(cell_len, lines)) <= 80
    assert len({line.split()[0] for line in lines[1:]}) == 40
    assert all("2013-01-01 to 2013-12-31" in line for line in lines[1:])
