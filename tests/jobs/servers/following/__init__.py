"""Tests of `creemson/jobs/servers/following`."""
