"""Tests of `creemson/server`."""
