"""The temporary folder of ``creemson worker``."""

import subprocess
import sys
import tempfile

import pytest

from creemson.cli.cluster.folder import worker_folder

KILLED = """
import os, signal
from creemson.cli.cluster.folder import worker_folder
with worker_folder() as folder:
    (folder / "scratch").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The system's folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_folder_is_removed_at_the_end(place):
    """With all that is in it."""
    with worker_folder() as folder:
        (folder / "scratch").mkdir()
        assert list(place.iterdir()) == [folder]
    assert list(place.iterdir()) == []


def test_folder_of_a_killed_process_is_removed_by_the_next_one_and_others_stay(place):
    """Those in use, those of other programs, and what only looks like one."""
    (place / "creemson-worker-file").touch()
    (place / "other").mkdir()
    (place / "creemson-worker-link").symlink_to(place / "other")
    with worker_folder() as used:
        before = set(place.iterdir())
        subprocess.run([sys.executable, "-c", KILLED])
        assert len(set(place.iterdir()) - before) == 1
        with worker_folder() as folder:
            assert set(place.iterdir()) == before | {folder}
        assert used.is_dir()
