"""Tests of `creemson/server/connection`."""
