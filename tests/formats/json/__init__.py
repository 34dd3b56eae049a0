"""Tests of `creemson/formats/json`."""
