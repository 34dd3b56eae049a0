"""The page of tasks for the command line: runs every command on it, in a pipe as a shell does."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from creemson import api
from tests.servers import serving
from tests.test_cookbook import blocks, commands

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = blocks(TEXT)
COMMANDS = [command for block in BLOCKS if block.language == "console" for command in commands(block.text)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files of the page, and a program `creemson` that uses a running server."""
    folder = tmp_path_factory.mktemp("command-line")
    for block in BLOCKS:
        if block.language == "csv":
            (folder / block.info).write_text(block.text)
    (folder / "bin").mkdir()
    tool = folder / "bin" / "creemson"
    tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m creemson "$@"\n')
    tool.chmod(0o755)
    with serving(folder.with_name("command-line-data")) as server:
        (folder / "url").write_text(server.base)
        yield folder


def shell(folder, command):
    """Run a command, and return what it prints."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("CREEMSON_")},
        "CREEMSON_URL": (folder / "url").read_text(),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(PAGE.parents[2]),
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", timeout=120,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(("command", "shown"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_command_prints_what_the_page_shows(folder, command, shown):
    """Exactly, except for seconds."""
    changing = re.compile(r"processed in [\d.]+ s| +$|-[0-9a-f]{12}", re.MULTILINE)
    assert changing.sub("", shell(folder, command)) == changing.sub("", shown)


def test_join_with_duckdb_prints_what_the_page_shows(folder, monkeypatch):
    """The block of Python."""
    [code] = [block.text for block in BLOCKS if block.language == "python"]
    [shown] = [block.text for block in BLOCKS if block.language == "text"]
    monkeypatch.setattr(api, "_default", clients := {})
    monkeypatch.setenv("CREEMSON_URL", (folder / "url").read_text())
    monkeypatch.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, str(PAGE), "exec"), {})
    for client in clients.values():
        client.close()
    assert printed.getvalue() == shown


def test_every_task_of_the_table_is_among_the_commands():
    """Each row's command is run."""
    rows = re.findall(r"^\| (\w+) \|.*`(creemson [^`]+)` \|$", TEXT, re.MULTILINE)
    assert {"head", "count", "select", "filter", "sort", "group", "convert", "statistics", "validate"} <= {
        task for task, _ in rows
    }
    run = [command.removesuffix(' || echo "exit status $?"') for command, _ in COMMANDS]
    assert not [command for _, command in rows if command not in run]
