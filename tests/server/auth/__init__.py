"""Tests of `creemson/server/auth`."""
