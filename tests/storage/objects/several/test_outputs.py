"""Outputs of jobs that several servers may run: only the one whose job it is publishes."""

import pytest

from creemson.catalog.shared.claims import LostClaimError
from tests.storage.objects.several.conftest import end, submit

NAME = "o-1.parquet"


def written(server, data):
    target = server.store.outputs.begin(NAME)
    server.write_output(target, data)
    return target


@pytest.mark.parametrize("loss", ["taken over", "ended", "deleted"])
def test_attempt_that_lost_its_job_publishes_nothing(one, two, loss):
    """Whatever has become of the job; what the other server has published stays."""
    claim = submit(one, "v")
    late = written(one, b"late")
    theirs = written(two, b"theirs")
    if loss == "taken over":
        two.sql("UPDATE jobs SET owner = 'two', epoch = 2 WHERE id = %s", claim.job)
    elif loss == "ended":
        end(two, claim)
    else:
        two.sql("DELETE FROM jobs")
    two.store.outputs.publish(NAME, theirs)
    with pytest.raises(LostClaimError):
        one.store.outputs.publish(NAME, late, claim)
    one.store.outputs.discard(late)
    assert one.content(NAME) == two.content(NAME) == b"theirs"
    one.sweep()
    assert list(one.objects().values()) == [len(b"theirs")]


def test_attempt_that_has_its_job_publishes(one, two):
    """The other server finds the output."""
    claim = submit(one, "v")
    one.store.outputs.publish(NAME, written(one, b"mine"), claim)
    assert two.content(NAME) == b"mine"
