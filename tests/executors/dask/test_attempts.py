"""Which attempt may publish what it writes."""

import pytest

from creemson.executors.dask import attempts


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.parquet"


def write(part, text="result"):
    part.write_text(text)


def test_claimed_attempt_publishes_and_leaves_nothing(target):
    """The usual course."""
    attempt = attempts.begin(target)
    part = attempts.claim(attempt)
    write(part)
    part.replace(target)
    attempts.revoke(attempt)
    assert [path.name for path in target.parent.iterdir()] == ["out.parquet"]


def test_attempt_is_claimed_only_once(target):
    """Dask runs a task again when its worker is gone; that run must not take the place of the first one."""
    attempt = attempts.begin(target)
    assert attempts.claim(attempt) is not None
    assert attempts.claim(attempt) is None


def test_revoked_attempt_cannot_publish(target):
    """A worker that was frozen wakes up; its output is gone, whatever it has open."""
    attempt = attempts.begin(target)
    part = attempts.claim(attempt)
    with part.open("w") as stream:
        attempts.revoke(attempt)
        stream.write("late")
    with pytest.raises(FileNotFoundError):
        part.replace(target)
    with pytest.raises(FileNotFoundError):
        write(part)
    assert list(target.parent.iterdir()) == []


def test_attempt_that_was_revoked_before_cannot_be_claimed(target):
    """A worker that was frozen before it began does nothing."""
    attempt = attempts.begin(target)
    attempts.revoke(attempt)
    attempts.revoke(attempt)
    assert attempts.claim(attempt) is None


def test_attempts_of_one_target_are_independent(target):
    """The next one begins before the folder of the last one is removed."""
    first, second = attempts.begin(target), attempts.begin(target)
    part = attempts.claim(second)
    attempts.revoke(first)
    write(part)


def test_attempt_in_a_folder_that_does_not_exist_is_not_claimed(target):
    """The worker is on a machine without the data folder."""
    assert attempts.claim(target.parent / "nowhere" / "attempt.tmp") is None
