"""What the server finds out about an object store at its start: refused within 10 s, with what to do."""

import re
import time

import pytest

from creemson.errors import ObjectStoreError
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.probe import probe
from tests.objectstores import Endpoint, forwarded, refusing, without_conditions


def refusal(url, *arguments, **options):
    """Return the words with which an object store is refused."""
    began = time.monotonic()
    with pytest.raises(ObjectStoreError) as caught:
        probe(url, *arguments, **options)
    assert time.monotonic() - began < 10
    message = str(caught.value)
    assert "secret-key" not in message
    assert "access-key" not in message
    return message


@pytest.fixture
def at(monkeypatch):
    """Let the environment lead to another place."""

    def lead(endpoint):
        for name, value in endpoint.environment.items():
            monkeypatch.setenv(name, value)

    return lead


def test_usable_store_is_accepted_and_left_as_it_was(url):
    """As often as you like, by the same catalog."""
    for _ in range(2):
        probe(url, "me")
    assert list(ObjectBucket(url).sizes()) == [("creemson-owner", 2)]


def test_store_of_the_provider_needs_no_endpoint(monkeypatch):
    """Nothing is sent: the address follows from the region."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert ObjectBucket("s3://bucket/tables").endpoint is None


def test_prefix_of_another_catalog_is_refused(url):
    """Each would remove what it does not know."""
    probe(url, "me")
    assert "belongs to another catalog" in refusal(url, "you")


def test_prefix_that_has_never_been_used_is_refused_if_the_catalog_has_files(url):
    """They are elsewhere; the next server that uses it is not refused because of that."""
    assert "none of its objects" in refusal(url, "me", has_files=True)
    probe(url, "you")
    probe(url, "you", has_files=True)


def test_store_that_ignores_conditional_writes_is_refused(endpoint, url, at):
    """Two servers would overwrite each other's objects."""
    with forwarded(endpoint, without_conditions) as forwarder:
        at(forwarder.endpoint())
        assert "does not refuse to create an object that exists" in refusal(url)
    at(endpoint)
    assert list(ObjectBucket(url).sizes()) == []


def test_missing_bucket_is_refused(url):
    """The message names it."""
    assert "s3://no-such-bucket/prefix" in (message := refusal("s3://no-such-bucket/prefix"))
    assert "there is no such bucket" in message


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "SignatureDoesNotMatch", "the secret key is wrong"),
        (403, "InvalidAccessKeyId", "it does not know the access key"),
        (403, "AccessDenied", "the credentials do not allow this"),
        (500, "InternalError", "it answers InternalError"),
    ],
)
def test_store_that_refuses_requests_is_refused_in_words(url, at, status, code, words):
    """With what to check."""
    with refusing(status, code) as endpoint:
        at(endpoint)
        message = refusal(url)
    assert words in message
    assert "AWS_SECRET_ACCESS_KEY" in message


def test_dead_endpoint_is_refused(endpoint, url, at):
    """Nobody listens there."""
    with forwarded(endpoint) as forwarder:
        forwarder.close()
        at(Endpoint(forwarder.port))
        assert "it does not answer" in refusal(url)


@pytest.mark.slow
def test_frozen_store_is_refused_in_time(endpoint, url, at):
    """It accepts connections, and does nothing more."""
    with forwarded(endpoint) as forwarder:
        forwarder.freeze()
        at(forwarder.endpoint())
        assert re.search("does not answer|has not answered", refusal(url))
