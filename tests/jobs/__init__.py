"""Tests of `creemson/jobs`."""
