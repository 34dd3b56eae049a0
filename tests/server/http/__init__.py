"""Tests of `creemson/server/http`."""
