"""Tests of `creemson/engine`."""
