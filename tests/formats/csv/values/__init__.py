"""Tests of `creemson/formats/csv/values`."""
