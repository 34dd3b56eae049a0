"""Fixtures for the tests of columnar copies."""

import pytest

from creemson.engine.windows import filters, survey


@pytest.fixture(autouse=True)
def patient_searches(monkeypatch):
    """A busy machine must not end a search early: the copy answers at once, and then differs from the file."""
    monkeypatch.setattr(filters, "SECONDS", 600.0)
    monkeypatch.setattr(survey, "SECONDS", 600.0)
