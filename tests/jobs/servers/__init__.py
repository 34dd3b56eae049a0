"""Tests of `creemson/jobs/servers`."""
