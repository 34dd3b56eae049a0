"""What of a data folder cannot be used is named, with what to do about it."""

import os
import subprocess
import sys

import pytest

from creemson.storage.access import obstacles
from tests.servers import ONE_WORKER, PATIENCE

ORDINARY = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Runs a command with the rights of an ordinary user, whom modes of files concern."""
FIND = "import sys; from pathlib import Path; from creemson.storage.access import obstacles; print(*obstacles(Path(sys.argv[1])), sep='\\n')"


@pytest.fixture
def data(tmp_path):
    """A data folder with everything in it."""
    folder = tmp_path / "data"
    for owner in (folder, folder / "callers" / "token-ann"):
        for name in ("uploads", "outputs", "parts"):
            (owner / name).mkdir(parents=True)
    for name in ("catalog.db", "catalog.db-wal", "tokens", "callers/token-ann/caller"):
        (folder / name).touch()
    return folder


def found(data):
    command = [*ORDINARY, sys.executable, "-c", FIND, str(data)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
    return [line for line in ran.stdout.splitlines() if line]


def test_usable_and_missing_folders_have_no_obstacles(data, tmp_path):
    """What does not exist is made."""
    assert list(obstacles(data)) == []
    assert list(obstacles(tmp_path / "none")) == []


def test_every_unusable_part_is_named_with_what_to_do(data):
    """Files of the catalog, folders, and the same of each caller."""
    parts = [
        "catalog.db",
        "catalog.db-wal",
        "outputs",
        "callers/token-ann/caller",
        "callers/token-ann/uploads",
    ]
    for name in parts:
        (data / name).chmod(0o400 if "caller" not in name else 0)
    lines = found(data)
    for part in parts:
        [line] = [line for line in lines if line.startswith(f"{data / part} ")]
        assert f"chmod u+r{'w' if not part.endswith('caller') else ''}" in line
    assert len(lines) == len(parts)
    for name in parts:  # so that pytest can remove it
        (data / name).chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_of_another_user_is_named_with_its_owner(data):
    """And the command that gives it back."""
    (data / "catalog.db").chmod(0o600)
    os.chown(data / "catalog.db", 65534, 65534)
    [line] = found(data)
    assert f"chown root {data / 'catalog.db'}" in line
    assert "nobody" in line or "user 65534" in line


def test_server_does_not_start_on_files_that_it_may_not_use(data):
    """It names them and says what to do, instead of failing at each request."""
    for name in ("catalog.db", "tokens"):
        (data / name).touch()
        (data / name).chmod(0)
    options = ["--port", "0", "--data-dir", str(data), "--set", "auth.mode=token", *ONE_WORKER]
    command = [*ORDINARY, sys.executable, "-m", "creemson", "serve", *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (ran.returncode, ran.stdout) == (1, "")
    for name in ("catalog.db", "tokens"):
        assert f"{data / name} belongs to" in ran.stderr
    assert "chmod u+r" in ran.stderr
    assert "Traceback" not in ran.stderr
