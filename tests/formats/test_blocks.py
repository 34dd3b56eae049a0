"""Files are read piece by piece; those that expand too far are found by decompressing them alone."""

import gzip

import attrs
import pytest

from creemson.formats.blocks import is_decompression_bomb
from creemson.formats.detection.sniff import sniff
from creemson.formats.source import PLAUSIBLE_EXPANSION, PLAUSIBLE_FREE

MEGABYTE = 1 << 20


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * (2 * MEGABYTE)))
    return path


def test_file_that_expands_beyond_the_limit_is_a_bomb(packed, monkeypatch):
    source = sniff(packed, packed.name)
    assert not is_decompression_bomb(packed, packed.name, source, lambda: False)
    monkeypatch.setattr("creemson.formats.source.EXPANSION_FREE", MEGABYTE)
    monkeypatch.setattr("creemson.formats.source.MAX_EXPANSION", 200)
    assert source.maximum < 8 * MEGABYTE
    assert is_decompression_bomb(packed, packed.name, source, lambda: False)


def test_search_for_a_bomb_ends_when_it_is_needless(packed, monkeypatch):
    source = sniff(packed, packed.name)
    monkeypatch.setattr("creemson.formats.source.EXPANSION_FREE", MEGABYTE)
    assert not is_decompression_bomb(packed, packed.name, source, lambda: True)


def test_damaged_file_is_no_bomb(packed):
    """The reading finds the damage."""
    packed.write_bytes(packed.read_bytes()[:-20])
    assert not is_decompression_bomb(packed, packed.name, sniff(packed, packed.name), lambda: False)


def test_expansion_is_plausible_up_to_a_hundred_times_unless_the_head_shows_more(packed):
    source = attrs.evolve(sniff(packed, packed.name), size=10 * MEGABYTE, expansion=20.0)
    assert source.plausible == PLAUSIBLE_EXPANSION * source.size
    assert attrs.evolve(source, expansion=1000.0).plausible == PLAUSIBLE_FREE
    assert attrs.evolve(source, size=1000).plausible == PLAUSIBLE_FREE
