"""Tests of `creemson.client.local`."""
