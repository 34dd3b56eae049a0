"""Cells as JSON values, at the ends of what Python can represent."""

import datetime

import polars as pl
import pytest

from creemson.engine.values import representable, to_json

ENDS = ["0001-01-01 00:00:00", "9999-12-31 23:59:59"]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_datetimes_of_the_first_and_the_last_year_are_shown(zone):
    """Regression: they were null in previews and windows, and in workbooks."""
    column = pl.Series("when", ENDS).str.to_datetime(time_zone=zone, time_unit="us")
    shown = column.to_frame().select(representable(pl.col("when"), column.dtype)).to_series()
    assert [to_json(value)[:19].replace("T", " ") for value in shown] == ENDS


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_datetimes_that_a_zone_shifts_out_of_range_are_null(zone):
    """Python has no year 0 and no year 10000."""
    column = pl.Series("when", ENDS).str.to_datetime(time_zone="UTC", time_unit="us")
    column = column.dt.convert_time_zone(zone)
    shown = column.to_frame().select(representable(pl.col("when"), column.dtype)).to_series()
    assert shown.to_list() == [None, None]


def test_datetimes_beyond_are_null():
    """polars has years that Python does not have."""
    column = pl.Series("when", [datetime.datetime(9999, 12, 31)]).dt.offset_by("1d")
    shown = column.to_frame().select(representable(pl.col("when"), column.dtype)).to_series()
    assert shown.to_list() == [None]
