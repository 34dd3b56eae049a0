"""No regular expression that reads a stranger's bytes backtracks."""

import ast
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import creemson
from creemson.engine.run import columns, run
from creemson.formats.types import RULES
from creemson.model.query import Options, Query
from tests.patterns import faults

PACKAGES = ("creemson.formats", "creemson.engine", "creemson.model", "creemson.storage", "creemson.wire")
SEARCHES = {"search", "findall", "finditer", "sub", "subn", "split"}
EXPLAINED = {
    (
        "creemson.formats.json.values",
        "_VALUES",
    ): "its last alternative matches the rest, so no search begins again",
    ("creemson.formats.json.numbers", "_MEMBER"): "like _VALUES",
    ("creemson.formats.json.parsing", "_TRAILING_COMMA"): "like _VALUES",
    ("creemson.formats.json.values", "_MEMBERS"): "like _VALUES",
    ("creemson.formats.json.values", "_SCALARS"): "like _VALUES",
    ("creemson.formats.json.values", "_TOKEN"): "the search ends at the first string that is not closed",
    (
        "creemson.formats.csv.layout.delimiter",
        "count_quoted_cells",
    ): "a scan passes only even runs of quotes, and only odd ones begin one",
}
"""Patterns that may begin again inside a repetition, and why they do so at most a few times."""


def patterns():
    """The patterns of all modules, with whether they are searched: as far as their module shows."""
    for package in PACKAGES:
        root = importlib.import_module(package)
        for found in [root.__name__, *(m.name for m in pkgutil.walk_packages(root.__path__, f"{package}."))]:
            if found.endswith("__main__"):
                continue
            module = importlib.import_module(found)
            tree = ast.parse(Path(module.__file__).read_text("utf-8"))
            searched = {
                node.value.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and node.attr in SEARCHES
                and isinstance(node.value, ast.Name)
            }
            for name, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    yield pytest.param(
                        value, name in searched and (found, name) not in EXPLAINED, id=f"{found}.{name}"
                    )
    for name, rule in RULES.items():
        yield pytest.param(rule.csv, False, id=f"rule {name}")
        yield pytest.param(rule.ambiguous, False, id=f"ambiguous {name}")


@pytest.mark.parametrize(("pattern", "is_searched"), list(patterns()))
def test_pattern_takes_linear_time(pattern, is_searched):
    """A repetition is left in one place only, and a search does not begin again inside of one."""
    assert faults(pattern.pattern, pattern.flags, is_searched=is_searched) == []


def test_patterns_made_while_reading_take_linear_time(tmp_path, monkeypatch):
    """Those with delimiters and quotes in them, or inside functions."""
    made = []
    compile_ = re._compile

    def recorded(pattern, flags):
        caller = sys._getframe(2).f_code
        if caller.co_filename.startswith(str(Path(creemson.__file__).parent)) and isinstance(
            pattern, str | bytes
        ):
            made.append((pattern, int(flags), caller.co_name))
        return compile_(pattern, flags)

    re.purge()
    monkeypatch.setattr(re, "_compile", recorded)
    for delimiter in (",", "\t", "||"):
        for quote in ("'", None):
            path = tmp_path / "t.csv"
            path.write_text(f'a{delimiter}b\n\'1\'{delimiter}"x\\"y"\n"2"{delimiter}\'y\'\n1\n', newline="")
            options = Options(delimiter=delimiter, quote=quote)
            columns(path, "t.csv", options)
            run(Query(filename="t.csv", options=options), path, tmp_path / "out", lambda _: None)
    names = {name for _, _, name in made}
    assert {"count_quoted_cells", "_patterns", "escape_before"} <= names
    explained = {name for _, name in EXPLAINED}
    for pattern, flags, name in made:
        is_searched = name not in {"_patterns", "fullmatch", "match", *explained}
        assert faults(pattern, flags, is_searched=is_searched) == [], (name, pattern)


@pytest.mark.parametrize(
    ("pattern", "is_searched"),
    [
        (rb"<(?:\w+:)?sheet\s([^>]*)>", True),
        (rb"([\w:]+)\s*=\s*\"([^\"]*)\"", True),
        (rb"<(?:\w+:)?c\s([^>]*\bt=\"e\"[^>]*)>(.{0,400}?)</(?:\w+:)?c>", True),
        (rb"<(?:\w+:)?mergeCell\s[^>]*\bref=\"([A-Z]+)(\d+):([A-Z]+)(\d+)\"", True),
        (rb"[A-Za-z]*[\x80-\xff][A-Za-z\x80-\xff]*", True),
        (r"\s*(?:[-+]?[$€£]?\s?\d[\d.,' ]*(?:[eE][-+]?\d+)?\s?[%€]?)\s*", False),
        (r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", False),
        (r"[-+]?[\d.,]*\d[\d.,]*%?", False),
        (r"(?:ab)+c", True),
        (r"(a+)+$", False),
        (r"(a|b+)*c", False),
        (r"\s+x", True),
        (r"a.*b", True),
    ],
)
def test_pattern_that_backtracks_is_recognized(pattern, is_searched):
    """The patterns that took minutes, and the classic ones."""
    assert faults(pattern, is_searched=is_searched)


@pytest.mark.parametrize("pattern", [r"\S+", r"\(os error (\d+)\)", r'"[^"]*+"', r"x\d*"])
def test_pattern_that_is_linear_is_accepted(pattern):
    """Otherwise, the rule would forbid what is right."""
    assert faults(pattern) == []
