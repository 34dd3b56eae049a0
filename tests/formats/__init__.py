"""Tests of `creemson/formats`."""
