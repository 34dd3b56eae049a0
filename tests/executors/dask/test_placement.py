"""Which commands go to the cluster."""

import pytest

from creemson.executors import commands
from creemson.executors.dask.placement import Load, place

SMALL, LARGE = 99, 100
REMOTE = "s3://bucket/key?name=t.csv&size={}&piece=0"


@pytest.fixture
def command(tmp_path):
    def make(size, *, remote=False, target=None):
        source = tmp_path / "t.csv"
        source.write_bytes(b"x" * size)
        path = REMOTE.format(size) if remote else str(source)
        return commands.render(source=path, target=target or str(tmp_path / "out"), output_format="csv")

    return make


@pytest.mark.parametrize(
    ("size", "load", "expected"),
    [
        (SMALL, Load(0, 2, 0, 4), "local"),
        (SMALL, Load(1, 2, 0, 4), "local"),
        (SMALL, Load(2, 2, 3, 4), "cluster"),
        (SMALL, Load(2, 2, 4, 4), "local"),
        (SMALL, Load(2, 2, 0, 0), "local"),
        (LARGE, Load(0, 2, 0, 4), "cluster"),
        (LARGE, Load(0, 2, 9, 4), "cluster"),
        (LARGE, Load(0, 2, 0, 0), "cluster"),
    ],
)
def test_size_and_load_decide_where_a_command_runs(command, size, load, expected):
    """Large ones wait for the cluster; small ones go there only if all workers here are busy and one there is free."""
    assert place(command(size), LARGE, load) == expected


@pytest.mark.parametrize(("size", "expected"), [(SMALL, "local"), (LARGE, "cluster")])
def test_size_of_a_file_in_an_object_store_is_in_its_address(command, size, expected):
    """It is not asked for again."""
    assert place(command(size, remote=True, target="s3://bucket/out"), LARGE, Load(0, 2, 0, 4)) == expected


def test_command_that_writes_to_the_folder_of_a_server_with_an_object_store_runs_there(command):
    """Workers need not see that folder."""
    assert place(command(LARGE, remote=True), LARGE, Load(2, 2, 0, 4)) == "local"


def test_file_that_does_not_exist_is_small(tmp_path):
    """The error is found here."""
    lost = commands.columns(source=str(tmp_path / "lost.csv"), name="lost.csv")
    assert place(lost, LARGE, Load(0, 2, 0, 4)) == "local"
