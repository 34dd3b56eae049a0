"""Tests of `creemson/catalog`."""
