"""The public API: the names that it offers, and the types that type checkers see."""

import subprocess
import sys
from pathlib import Path

import pytest

import creemson
import creemson.client

ROOT = Path(__file__).parents[1]
SCRIPT = "tests/typing/public_api.py"


def test_package_offers_exactly_the_public_names():
    """A name more or less is a change of the public API, which the changelog must mention."""
    assert creemson.__all__ == [
        "Client",
        "ConnectionLost",
        "CreemsonError",
        "InvalidFormat",
        "ProcessingError",
        "Result",
        "__version__",
        "process",
    ]
    assert all(getattr(creemson, name) is not None for name in creemson.__all__)
    with pytest.raises(AttributeError, match="Nonsense"):
        creemson.Nonsense  # noqa: B018


def test_client_offers_exactly_the_public_names():
    """The same for `creemson.client`."""
    assert creemson.client.__all__ == [
        "Client",
        "ConnectionPool",
        "ConnectionState",
        "Job",
        "PoolStatistics",
        "Progress",
        "Result",
        "connect",
    ]
    assert all(getattr(creemson.client, name) is not None for name in creemson.client.__all__)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["mypy", "--strict"], id="mypy", marks=pytest.mark.slow),
        pytest.param(["basedpyright", "--pythonpath", sys.executable], id="basedpyright"),
    ],
)
def test_script_that_uses_everything_public_has_no_type_errors(command):
    """mypy and basedpyright find no error; both use the settings in pyproject.toml."""
    pytest.importorskip(command[0])
    checked = subprocess.run(
        [sys.executable, "-m", *command, SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
