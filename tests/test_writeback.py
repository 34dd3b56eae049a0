"""Writing is begun early, and nothing else changes."""

import os

from creemson.storage import parts, writeback
from creemson.storage.parts import Part


def test_a_part_begins_to_be_written_as_it_grows(tmp_path, monkeypatch):
    """Each byte once, in the order of the file."""
    begun = []
    monkeypatch.setattr(parts, "BEGIN_BYTES", 10)
    monkeypatch.setattr(writeback, "begin", lambda file, offset, size: begun.append((offset, size)))
    part = Part.create(tmp_path / "a.part", tmp_path / "a", overwrite=False)
    for size in (4, 4, 4, 30, 1):
        part.write(bytes(size))
    part.finish()
    assert begun == [(0, 12), (12, 30)]
    assert (tmp_path / "a").stat().st_size == 43


def test_it_can_be_begun(tmp_path):
    """On a file; and what is none is no reason to fail, since a sync tells."""
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(100_000))
        file.flush()
        writeback.begin(file.fileno(), 0, 100_000)
        os.fdatasync(file.fileno())
    writeback.begin(-1, 0, 1)
