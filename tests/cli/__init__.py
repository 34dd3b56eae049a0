"""Tests of `creemson/cli`."""
