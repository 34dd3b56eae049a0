"""Files that plans write to, also after a plan has failed."""

import polars as pl

from creemson.engine.sinks import sink_to

FRAME = pl.LazyFrame({"a": range(1000)})


def test_plan_that_failed_writes_no_more_to_the_file_of_the_next(tmp_path):
    """Here it begins when the next one has ended, as a task of it may on a busy machine."""
    path = tmp_path / "output"
    late = sink_to(path, FRAME.select("a", b=0).sink_parquet)
    pl.collect_all([sink_to(path, FRAME.sink_parquet)], engine="streaming")
    pl.collect_all([late], engine="streaming")
    assert pl.read_parquet(path).equals(FRAME.collect())
    assert [child.name for child in tmp_path.iterdir()] == ["output"]


def test_head_comes_before_the_rows(tmp_path):
    path = tmp_path / "output"
    pl.collect_all([sink_to(path, FRAME.head(2).sink_csv, head=b"x\n", include_header=False)])
    assert path.read_bytes() == b"x\n0\n1\n"
