"""Tests of `creemson/jobs/work`."""
