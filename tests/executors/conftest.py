"""Fixtures of the tests of executors."""

import polars as pl
import pytest


def write_large(folder, rows):
    """Write a CSV of 28 bytes a row that takes long to read, and longer to sort; return its path."""
    path = folder / "large.csv"
    number = pl.int_range(rows, eager=True)
    pl.DataFrame(
        {"n": number, "t": (number * 2654435761 % 1_000_003).cast(pl.String), "h": number / 2}
    ).write_csv(path)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Nearly 100 MB of CSV: reading takes most of a second, sorting takes longer."""
    return write_large(tmp_path_factory.mktemp("large"), 3_500_000)
