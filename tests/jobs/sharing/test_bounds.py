"""The bounds of one caller that follow from the settings."""

import pytest

from creemson.jobs.sharing.bounds import Bound, bounds_of
from creemson.settings.sections import Auth, Limits, Settings

MIB = 2**20


@pytest.mark.parametrize(
    ("mode", "limits", "queued", "remembered", "remembered_bytes", "lookups"),
    [
        ("token", {}, (200, 1000), (200, 1000), (4 * MIB, 16 * MIB), (100, 1000)),
        ("none", {}, (1000, 1000), (1000, 1000), (16 * MIB, 16 * MIB), (1000, 1000)),
        ("token", {"queue": 3}, (1, 3), (200, 1000), (4 * MIB, 16 * MIB), (100, 1000)),
        ("none", {"queue_per_caller": 7, "results_per_caller": 5, "lookups_per_caller": 3},
         (7, 1000), (5, 1000), (4 * MIB, 16 * MIB), (3, 1000)),
    ],
)  # fmt: skip
def test_bound_of_a_caller_is_a_share_unless_it_is_alone(
    mode, limits, queued, remembered, remembered_bytes, lookups
):
    """Without authentication there is one caller, who may have everything; what is set counts."""
    bounds = bounds_of(Settings(auth=Auth(mode=mode), limits=Limits(**limits)))
    assert bounds.queued == Bound(*queued)
    assert bounds.remembered == Bound(*remembered)
    assert bounds.remembered_bytes == Bound(*remembered_bytes)
    assert bounds.lookups == Bound(*lookups)
