"""A project that uses the packed package."""

import pytest

from tests import node


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A node project in which the package is installed."""
    return node.project(tmp_path_factory.mktemp("package"))
