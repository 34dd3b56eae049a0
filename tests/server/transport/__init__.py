"""Tests of `creemson/server/transport`."""
