"""The cookbook: runs every file, command, block and message in it against a real server."""

import contextlib
import csv
import datetime
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import attrs
import polars as pl
import pytest
import xlsxwriter
from click.testing import CliRunner

import creemson
from creemson import api, cli
from tests.servers import serving

COOKBOOK = Path(__file__).parents[1] / "docs" / "how-to" / "cookbook.md"
FENCED = re.compile(r"^```([^\n]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r"-([0-9a-f]{12})\.")
URL = "ws://127.0.0.1:8000/ws"


@attrs.frozen
class Block:
    """A fenced block: its language, the rest of its info line, and its text."""

    language: str
    info: str
    text: str


def blocks(text):
    return [Block(*match[1].partition(" ")[::2], match[2]) for match in FENCED.finditer(text)]


def recipes():
    """The title of each recipe, and its blocks."""
    parts = re.split(r"^## ", COOKBOOK.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {part.splitlines()[0]: blocks(part) for part in parts}


RECIPES = recipes()


def is_file(block):
    return block.language in ("csv", "json") and "." in block.info


def write_files(folder):
    """Write the files that the recipes show; each sheet of a workbook is one block."""
    sheets = {}
    for block in (block for blocks in RECIPES.values() for block in blocks if is_file(block)):
        name, _, detail = block.info.partition(" ")
        if name.endswith(".xlsx"):
            sheets.setdefault(name, {})[detail] = block.text
        else:
            (folder / name).write_bytes(block.text.encode(detail or "utf-8"))
    for name, texts in sheets.items():
        with xlsxwriter.Workbook(folder / name, {"default_date_format": "yyyy-mm-dd"}) as book:
            for title, text in texts.items():
                sheet = book.add_worksheet(title)
                for number, row in enumerate(csv.reader(text.splitlines())):
                    sheet.write_row(number, 0, [as_cell(cell) for cell in row])


def as_cell(text):
    for kind in (float, datetime.date.fromisoformat):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


class RecipeRunner:
    """A folder with the files, and a server to run the recipes against."""

    def __init__(self, folder, server):
        self.folder = folder
        self.server = server
        self.names = {}  # names of outputs in the cookbook: they differ on each run
        self.space = {"creemson": creemson}
        tool = folder / "bin" / "creemson"
        tool.parent.mkdir()
        tool.write_text(
            # The cookbook shows what a terminal shows.
            '#!/bin/sh\ncase "$*" in\n  *--output*) ;;\n  process*) set -- "$@" --format table ;;\nesac\n'
            f'exec {shlex.quote(sys.executable)} -m creemson "$@" --url {server.url}\n'
        )
        tool.chmod(0o755)
        write_files(folder)
        for file in folder.iterdir():
            if file.is_file():
                server.put(file.name, file)

    def real(self, text):
        """The cookbook's text with the names and the address of this run."""
        for shown, real in self.names.items():
            text = text.replace(shown, real)
        return text.replace(URL, self.server.url)

    def assert_same(self, shown, printed):
        """Compare printed text with the shown text, except for seconds and names of outputs."""
        for one, other in zip(OUTPUT.findall(shown), OUTPUT.findall(printed), strict=False):
            self.names[one] = other
        changing = re.compile(r"processed in [\d.]+ s| +$", re.MULTILINE)
        assert changing.sub("", self.real(shown)) == changing.sub("", printed)

    def shell(self, command):
        """Run a command and return what it prints."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CREEMSON_")} | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(COOKBOOK.parents[2]),
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": "100",
        }
        done = subprocess.run(
            ["sh", "-c", self.real(command)], cwd=self.folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", timeout=300,
        )  # fmt: skip
        return done.stdout

    def python(self, code):
        """Run a Python block and return what it prints; its variables stay in `space`."""
        self.space.pop("result", None)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(self.real(code), str(COOKBOOK), "exec"), self.space)
        return printed.getvalue()

    def message(self, text):
        """Send a message and return the last answer."""
        with self.server.connect() as client:
            client.send(self.real(text))
            return client.until("result", "error")[-1]

    def table(self, name):
        """Download an output from the server as a table."""
        with self.server.connect() as client:
            return pl.read_parquet(io.BytesIO(client.download(name)[1]))

    def table_of_command(self, command):
        """The result of a command as a table; None if it fails."""
        words = shlex.split(self.real(command).split("||")[0])[1:]
        if "--output" in words:
            del words[words.index("--output") : words.index("--output") + 2]
        words = [word for word in words if word != "--normalized"]
        target = self.folder / "of-command.parquet"
        arguments = [
            *words,
            "--output",
            str(target),
            *([] if "--url" in words else ["--url", self.server.url]),
        ]
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(cli.main, arguments)
        return pl.read_parquet(target) if done.exit_code == 0 else None


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cookbook")
    with serving(folder.with_name("cookbook-data")) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "_default", clients := {})  # the recipes use the default client
        yield RecipeRunner(folder, server)
        for client in clients.values():
            client.close()


def commands(text):
    """The commands of a console block, each with its printed output."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [tuple(part.partition("\n")[::2]) for part in parts]


@pytest.mark.parametrize("title", RECIPES)
def test_recipe_prints_what_it_shows(runner, title, monkeypatch):
    """All output is as shown; command, block and message of a recipe give the same table."""
    monkeypatch.chdir(runner.folder)
    monkeypatch.setenv("CREEMSON_URL", runner.server.url)
    command = answer = None
    compared = 0
    blocks_to_run = [block for block in RECIPES[title] if not is_file(block)]
    for number, block in enumerate(blocks_to_run):
        following = blocks_to_run[number + 1] if number + 1 < len(blocks_to_run) else Block("", "", "")
        if block.language == "console":
            for line, shown in commands(block.text):
                runner.assert_same(shown, runner.shell(line))
                command = line if line.startswith("creemson process") else command
        elif block.language == "python":
            shown = following.text if following.language == "text" else ""
            runner.assert_same(shown, runner.python(block.text))
        elif block.language == "json" and block.info == "answer":
            whole = answer if answer["type"] == "error" else answer["data"]["output_data"]
            assert_contains(json.loads(block.text), whole)
        elif block.language == "json":
            answer = runner.message(block.text)
            output = answer["data"]["output_data"] if answer["type"] == "result" else None
            if (following.language, following.info) == ("json", ""):
                first = json.loads(following.text)["filename"]  # the next message uses this one's output
                runner.names[OUTPUT.search(first)[1]] = OUTPUT.search(output["filename"])[1]
                continue
            expected = runner.table_of_command(command)
            compared += 1
            if expected is None:
                assert output is None
                assert "result" not in runner.space
                continue
            assert output is not None, answer
            assert runner.table(output["filename"]).equals(expected, null_equal=True)
            frame = runner.table(runner.space["result"].filename)
            assert frame.equals(expected, null_equal=True)
            assert frame.schema == expected.schema
    assert compared


def assert_contains(part, whole):
    """Assert that the first value is contained in the second, ignoring names of outputs."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert_contains(value, whole.get(key))
    elif isinstance(part, list):
        assert len(part) == len(whole)
        for one, other in zip(part, whole, strict=True):
            assert_contains(one, other)
    elif isinstance(part, str):
        assert OUTPUT.sub(".", part) == OUTPUT.sub(".", whole)
    else:
        assert part == whole


def test_every_recipe_has_all_ways_and_only_tested_blocks():
    """No block has a language that the tests do not run."""
    for title, found in RECIPES.items():
        languages = {block.language for block in found if not is_file(block)}
        assert {"console", "python", "json"} <= languages <= {"console", "python", "json", "text"}, title
    pages = re.split(r"^## ", COOKBOOK.read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert all("**Page**" in part for part in pages)
