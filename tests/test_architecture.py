"""Who may import whom: the house has one direction."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import creemson

PACKAGE = Path(creemson.__file__).parent
# What each room may import besides itself. `server` composes what `processing` and `storage` offer.
ALLOWED = {
    "errors": set(),
    "settings": {"errors"},
    "observe": {"settings"},
    "metrics": set(),
    "wire": {"errors"},
    "storage": {"errors", "wire"},
    "processing": {"errors", "settings", "metrics", "wire", "storage"},
    "server": {"errors", "settings", "metrics", "wire", "storage", "processing", "__init__"},
    "client": {"errors", "wire"},
    "display": {"wire"},
    "embedded": {"observe", "settings", "server"},
    "scripting": {"client", "display", "embedded"},
    # `doctor` looks at the parts one by one.
    "cli": {
        "errors",
        "settings",
        "observe",
        "wire",
        "storage",
        "processing",
        "server",
        "client",
        "display",
        "embedded",
        "__init__",
    },
    "__main__": {"cli"},
    "__init__": {"client", "errors", "scripting"},  # when they are asked for
}
POLARS = {
    f"processing/{name}.py"
    for name in (
        "casting", "casts", "conversion", "csv_table", "engine", "fixed_width", "json_lines", "json_records", "naming",
        "plan", "profile", "progress", "rendering", "sheets", "table", "tables", "unpacking",
    )
}  # fmt: skip
NO_TRIO = ["wire", "storage", "processing/alignment.py", "processing/dialect.py", "processing/encodings.py",
           "processing/formats.py", "processing/issues.py", "processing/jobs.py", "processing/json_array.py",
           "processing/json_text.py", "processing/mending.py", "processing/options.py", "processing/splitting.py",
           "processing/worker.py", *sorted(POLARS),
           "client/backoff.py", "client/lending.py", "server/access.py", "server/effects.py", "server/protocol.py"]  # fmt: skip


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """The full names of what a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    """A room imports only what stands before it."""
    rooms = {found.stem if found.suffix else found.name for found in PACKAGE.iterdir()}
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "creemson" or len(parts) == 1:
            continue
        target = parts[1] if parts[1] in rooms else "__init__"
        assert target == room(path) or target in ALLOWED[room(path)], f"{path} imports {name}"


def test_connection_and_processor_do_not_know_each_other():
    """They meet in the mailbox."""
    assert not any("processor" in name for name in imports(PACKAGE / "server" / "connection.py"))
    assert not any("creemson.server" in name for name in imports(PACKAGE / "processing" / "processor.py"))


@pytest.mark.parametrize("place", NO_TRIO)
def test_the_cores_know_no_trio_and_no_sockets(place):
    """What decides can be tested without waiting for anything."""
    paths = [PACKAGE / place] if place.endswith(".py") else sorted((PACKAGE / place).rglob("*.py"))
    for path in paths:
        found = {name.split(".")[0] for name in imports(path)}
        assert not found & {"trio", "trio_websocket", "wsproto", "socket", "asyncio"}, path


def test_only_the_engine_knows_polars():
    """Everything else would still stand with another engine."""
    found = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(name.split(".")[0] == "polars" for name in imports(path))
    }
    assert found == POLARS | {"client/result.py", "client/blocking.py"}  # they give frames to those who ask


def test_the_server_does_not_load_polars():
    """It would cost every server 60 MB, and a crash of polars must not be the server's."""
    code = "import sys, creemson.cli; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_module_says_what_it_is_for():
    """A reader starts at the docstring."""
    for path in modules():
        assert ast.get_docstring(ast.parse(path.read_text())), path
