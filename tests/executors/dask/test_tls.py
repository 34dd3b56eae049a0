"""Addresses and certificates of a cluster."""

import ssl

import pytest

from creemson.executors.dask.tls import TlsFiles, create_certificates, refusal

HOW = "--tls DIR"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return create_certificates(tmp_path_factory.mktemp("tls") / "new")


def test_created_certificate_is_accepted_by_its_authority_only(files, tmp_path):
    """Two sides that have the same files accept each other; a stranger is refused by both."""
    stranger = create_certificates(tmp_path)
    assert shake(files, files)
    with pytest.raises(ssl.SSLError):
        shake(files, stranger)
    with pytest.raises(ssl.SSLError):
        shake(stranger, files)


def shake(server_files, client_files):
    """Do a handshake in memory in which both sides show certificates, as Dask does."""
    contexts = []
    for files, purpose in ((client_files, ssl.Purpose.SERVER_AUTH), (server_files, ssl.Purpose.CLIENT_AUTH)):
        context = ssl.create_default_context(purpose, cafile=files.ca)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(files.cert, files.key)
        contexts.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts[0].wrap_bio(to_client, to_server)
    server = contexts[1].wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(10):
        for side in {client, server} - done:
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    return len(done) == 2


def test_key_is_readable_by_its_owner_only_and_nothing_is_replaced(files):
    """A second try must not change the files of a cluster that runs."""
    assert files.key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_certificates(files.ca.parent)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:1"])
def test_scheduler_on_this_machine_needs_no_tls(address):
    """Nobody else can reach it."""
    assert refusal(address, None, how=HOW) is None


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("tcp://10.0.0.1:8786", "not encrypted"),
        ("tcp://scheduler:8786", "not encrypted"),
        ("tls://10.0.0.1:8786", "give --tls DIR"),
        ("10.0.0.1:8786", "not the address"),
        ("tls://10.0.0.1", "not the address"),
        ("http://10.0.0.1:8786", "not the address"),
        ("", "not the address"),
    ],
)
def test_scheduler_without_protection_is_refused_in_words(address, says):
    """The message says what to do."""
    assert says in refusal(address, None, how=HOW)


def test_unreadable_tls_file_is_named(files, tmp_path):
    """Before anything is tried."""
    lost = TlsFiles(files.ca, files.cert, tmp_path / "lost.pem")
    assert refusal("tls://10.0.0.1:1", files, how=HOW) is None
    assert "lost.pem cannot be read" in refusal("tls://10.0.0.1:1", lost, how=HOW)
    assert refusal("tcp://127.0.0.1:1", files, how=HOW) is None
