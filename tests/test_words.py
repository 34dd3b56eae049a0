"""Names that the glossary has retired do not come back.

Past decisions and the CHANGELOG may use them; code, tests and benchmarks may not.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("creemson", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
]
PAGE = sorted((ROOT / "creemson" / "page").rglob("*.js"))
RETIRED_WORDS = {
    "mend", "mended", "mender", "mending", "lend", "lending", "lends", "borrow", "borrowed", "borrower", "blocking", "heap",
    "asker", "classic", "classics", "abandon", "sayable", "sniffed", "dice", "fastsocket", "callerknown", "paced",
    "rebound", "glance", "refine", "put_off", "may_come_from", "is_rebound",
}  # fmt: skip
"""Words that no name may contain as a part."""
RETIRED_NAMES = {
    "Link", "LinkLost", "Gate", "Bucket", "Receiving", "Sending", "Tick", "Meter", "Jobs", "cell", "bomb", "weight", "wanted",
}  # fmt: skip
"""Whole names of classes, functions and modules that are retired; as a part of another name the word may stand."""
ALLOWED = {
    # The message `jobs` of the wire protocol.
    ("creemson/wire/messages.py", "Jobs"),
}


def parts_of(name):
    """Split a name into its lower-case words: `FastSocket_MOST` gives fast, socket, most."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [part for part in spaced.lower().split("_") if part]


def is_retired(name):
    """Whether a name, or a word in it, is retired."""
    bare = name.strip("_")
    joined = "_".join(parts_of(bare))
    return (
        bare in RETIRED_NAMES
        or bool(re.fullmatch(r"[A-Z0-9_]+_(MOST|LEAST)", bare))
        or any(re.search(rf"(^|_){word}(_|$)", joined) for word in RETIRED_WORDS)
        or joined.replace("_", "") in RETIRED_WORDS
    )


def defined_in(tree):
    """The names of classes, functions and constants that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize(
    "name", ["Lending", "_Mender", "COLUMNS_MOST", "Bucket", "FastSocket", "test_put_off_jobs"]
)
def test_retired_name_is_recognised(name):
    """The rule finds retired names of each kind."""
    assert is_retired(name)


@pytest.mark.parametrize(
    "name", ["TokenBucket", "blockingly", "cell_text", "Almost", "symlink", "MAX_COLUMNS"]
)
def test_other_name_is_accepted(name):
    """A retired word inside a longer word is allowed."""
    assert not is_retired(name)


def test_names_in_code_and_tests_are_not_retired():
    """No class, function, module, constant or test has a retired name."""
    found = []
    for path in SOURCES:
        where = path.relative_to(ROOT).as_posix()
        names = [path.stem, *defined_in(ast.parse(path.read_text("utf-8")))]
        found += [(where, name) for name in names if is_retired(name) and (where, name) not in ALLOWED]
    assert found == []


def test_names_of_page_modules_are_not_retired():
    """The same holds for the page; `memory.js` became `unfinished.js`."""
    assert PAGE
    assert [path.name for path in PAGE if is_retired(path.stem) or path.stem == "memory"] == []
    functions = [
        (path.name, name)
        for path in PAGE
        for name in re.findall(r"(?:function|class)\s+(\w+)", path.read_text("utf-8"))
        if is_retired(name)
    ]
    assert functions == []
