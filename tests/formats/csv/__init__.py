"""Tests of `creemson/formats/csv`."""
