"""Every Python block and every command of the documentation runs; the blocks also line by line in an interactive console.

The cookbook and the guides for the command line and for JavaScript have tests of their own, which also compare what is printed.
"""

import code
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
import trio

import creemson
import creemson.client
from creemson import api
from creemson.cli.shared.options import load_settings
from tests.docs.command_lines import command_of, parse
from tests.docs.conftest import DOCS, ROOT
from tests.servers import SAMPLE, serving

FENCED = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TESTED_ELSEWHERE = {"how-to/command-line.md", "how-to/cookbook.md", "how-to/use-from-javascript.md"}
NOT_OURS = {"pip", "nox", "docker", "npm", "python", "openssl"}
"""Commands that need a network, a service or half an hour; `openssl` has a test of its own."""
NEED_A_CLUSTER = "docs/how-to/scale.md"
SYSTEM = {"cd", "createdb", "createuser", "curl", "docker", "export", "kubectl", "printf", "sudo"}
"""What the page on clusters uses besides the programs whose arguments are checked."""
INSIDE = "async"
"""Marks a block that belongs into an `async with connect(…) as client`."""
ADDRESS = "127.0.0.1:8000"


@attrs.frozen
class Page:
    """A page with its blocks: language, mark and text each."""

    path: Path
    blocks: tuple

    @property
    def name(self):
        return self.path.relative_to(ROOT).as_posix()

    def python(self):
        return [(mark, text) for language, mark, text in self.blocks if language == "python"]

    def commands(self):
        """The commands, without prompts, output and comments."""
        for language, _, text in self.blocks:
            if language not in ("sh", "console"):
                continue
            prompt = "$ " if "\n$ " in f"\n{text}" else ""
            lines = text.replace("\\\n", " ").splitlines()
            yield from (
                line.removeprefix(prompt) for line in lines if line.startswith(prompt) and line.strip()
            )


def pages():
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        if path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix() not in TESTED_ELSEWHERE:
            found = FENCED.findall(path.read_text("utf-8"))
            if found:
                yield Page(path, tuple(found))


PAGES = {page.name: page for page in pages()}
WITH_PYTHON = [name for name, page in PAGES.items() if page.python()]
COMMANDS = [
    (name, command) for name, page in PAGES.items() if name != NEED_A_CLUSTER for command in page.commands()
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working copy with the sample, in which a reader would try the blocks."""
    (tmp_path / "creemson" / "samples").mkdir(parents=True)
    shutil.copy(SAMPLE, tmp_path / "creemson" / "samples")
    (tmp_path / "large.csv").write_text("carrier,dep_delay\nUA,2\nAA,5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CREEMSON_URL", raising=False)
    return tmp_path


@pytest.fixture
def own_server(folder):
    """A server of the test's own, and no client that outlives the test."""
    with serving(folder / "data") as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "_default", clients := {})
        yield server
        for client in clients.values():
            client.close()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    """One server for all commands."""
    with serving(tmp_path_factory.mktemp("commands") / "data") as server:
        yield server


def blocks_of(name, server):
    return [(mark, text.replace(ADDRESS, f"127.0.0.1:{server.port}")) for mark, text in PAGES[name].python()]


def run_inside(text, space, server):
    """Run a block as the body of a task with a connected client."""
    body = textwrap.indent(text, "        ")
    source = f"async def _main():\n    async with _connect({server.url!r}) as client:\n{body}"
    space["_connect"] = creemson.client.connect
    exec(compile(source, "<block>", "exec"), space)
    trio.run(space["_main"])


def apart(function, *arguments):
    """Call a function in a thread: Playwright, if tests of the browser ran before, leaves asyncio's loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(function, *arguments).result()


TABLE_RULE = re.compile(r"\|(?: ?:?-+:? ?\|)+")
"""The line between the header and the rows of a table."""


def test_rows_of_tables_have_a_header_and_as_many_cells():
    """A row behind an empty line is shown as text, and a row with too many cells is cut."""
    faults = []
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        lines, cells = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S).splitlines(), 0
        for number, (line, after) in enumerate(pairwise([*lines, ""]), start=1):
            bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            if bars and not cells:
                cells = bars if TABLE_RULE.fullmatch(after) else -1
            if bars != cells and bars:
                faults.append(f"{path.relative_to(ROOT)}, line {number} without blocks: {line[:60]}")
            cells = cells if bars else 0
    assert faults == []


NO_LABELS = {
    "Ctrl",
    "End",
    "Enter",
    "Escape",
    "Home",
    "Page Down",
    "Page Up",
    "Shift",
    "Tab",
    "for each species",
}
"""Keys, and a choice that the page makes of the names of columns."""


@pytest.mark.parametrize("name", ["how-to/cookbook.md", "how-to/use-the-page.md", "tutorial.md"])
def test_labels_that_a_guide_to_the_page_names_are_on_the_page(name):
    """In italics: buttons, fields and choices. Only terms that are explained are in italics, too."""
    text = re.sub(r"^```.*?^```$", "", (DOCS / name).read_text("utf-8"), flags=re.M | re.S)
    named = {" ".join(found.split()) for found in re.findall(r"(?<![*\w])\*([^*]+)\*(?![*\w])", text)}
    sources = (path for path in (ROOT / "creemson" / "page").rglob("*") if path.suffix in (".js", ".html"))
    page = "\n".join(path.read_text("utf-8") for path in sources)
    assert {label for label in named if label not in page} <= {*NO_LABELS, "legacy request"}
    assert named


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_python_blocks_of_the_page_run_in_order(name, own_server):
    """The page is one program."""
    apart(run_in_order, name, own_server)


def run_in_order(name, server):
    space = {"creemson": creemson}
    for mark, text in blocks_of(name, server):
        with contextlib.redirect_stdout(io.StringIO()):
            if mark == INSIDE:
                run_inside(text, space, server)
            else:
                exec(compile(text, name, "exec"), space)
    close(space)


class Console(code.InteractiveConsole):
    """An interactive console that fails where a real one would print an error."""

    def showtraceback(self):
        raise  # noqa: PLE0704 - it is called while the exception is handled

    def showsyntaxerror(self, *_, **__):
        raise  # noqa: PLE0704


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_python_blocks_can_be_pasted_line_by_line(name, own_server):
    """As in the console of Python before 3.13, where an empty line ends an indented block, and only that does."""
    apart(paste, name, own_server)


def paste(name, server):
    console = Console({"__name__": "__console__"})
    for mark, text in blocks_of(name, server):
        if mark == INSIDE:
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            for line in text.splitlines():
                console.push(line)
            assert not console.push(""), f"the block is not complete:\n{text}"
    close(console.locals)


def close(space):
    """Close what a page leaves open for its reader."""
    for value in list(space.values()):
        if hasattr(value, "close") and not isinstance(value, type):
            value.close()


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=lambda value: value[:40])
def test_command_of_the_page_is_accepted(name, command, folder, shared_server):
    """Commands that end are run; the arguments of a server are checked."""
    for single in re.split(r"&&|&$", command.partition(" #")[0]):
        words = shlex.split(single.replace("/var/lib/creemson", str(folder / "other")))
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if not words or words[0] in NOT_OURS:
            continue
        assert words[0] == "creemson", f"{name}: nothing tests {single!r}"
        if words[1] == "serve":
            parse(words)
            continue
        if "wss://" in single:
            continue  # tested with its certificate
        run_command(
            [word.replace(ADDRESS, f"127.0.0.1:{shared_server.port}") for word in words[1:]], shared_server
        )


@pytest.mark.parametrize("command", list(PAGES[NEED_A_CLUSTER].commands()), ids=lambda value: value[:40])
def test_command_of_the_page_on_clusters_is_accepted(command):
    """Its arguments are parsed, and its settings loaded; it needs machines that the tests do not have."""
    words = shlex.split(command.removesuffix("&"), comments=True)
    if not words or words[0] in SYSTEM:
        return
    options = parse(words)
    load_settings(options.get("config"), options.get("overrides", ()))


def run_command(words, server):
    """Run a command of ours; those that need a server use the test's, and `process` starts one as it does for readers."""
    takes_url = words[0] != "process" and any(
        "--url" in option.opts for option in command_of(words[0]).params
    )
    address = ["--url", server.url] if takes_url and "--url" not in words else []
    done = subprocess.run(
        [sys.executable, "-m", "creemson", *words, *address],
        capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_certificate_is_made_served_and_trusted_as_the_page_says(folder):
    """The commands of the page on deployment, with a port of the test's own."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt-get install openssl")
    make, _, use = (text for language, _, text in PAGES["docs/deploy/index.md"].blocks[:3])
    subprocess.run(["sh", "-c", make], check=True, capture_output=True, timeout=60)
    create = [sys.executable, "-m", "creemson", "token", "create", "ann", "--data-dir", "data"]
    token = subprocess.run(create, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    flags = ("auth.mode=token", "server.tls_cert=chain.pem", "server.tls_key=key.pem")
    with serving(folder / "data", *(part for flag in flags for part in ("--set", flag))) as server:
        command = use.replace("8000", str(server.port)).replace(
            "creemson files", f"{sys.executable} -m creemson files"
        )
        done = subprocess.run(
            ["sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"TOKEN": token},
        )
        assert done.returncode == 0, done.stderr
