"""Tests of `creemson/jobs/queue`."""
