"""Opaque tokens: what the token file contains, and what it does not."""

import json
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.server.auth.tokens import Tokens


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path / "tokens", clock=lambda: 5.0)


def test_token_is_found_until_revoked(tokens):
    """Every reader of the same file sees the change."""
    ann, bob = tokens.create("ann"), tokens.create("bob")
    other = Tokens(tokens._source.path)
    assert (other.find(ann).name, other.find(bob).name) == ("ann", "bob")
    assert [entry.name for entry in other.entries()] == ["ann", "bob"]
    number = other.find(ann).id
    tokens.revoke("ann")
    assert other.find(ann) is None
    assert not other.knows(number)
    assert other.find(bob).name == "bob"


def test_token_file_contains_no_token(tokens):
    """It holds only salted digests and is readable by its owner only."""
    made = [tokens.create(name) for name in ("ann", "bob")]
    text = tokens._source.path.read_text()
    for token in made:
        assert token.split("_", 2)[2] not in text
    rows = [json.loads(line) for line in text.splitlines()]
    assert len({row["salt"] for row in rows}) == 2
    assert all(len(bytes.fromhex(row["digest"])) == 32 for row in rows)
    assert stat.S_IMODE(tokens._source.path.stat().st_mode) == 0o600


def test_permissions_of_the_token_file_stay_under_a_strict_umask(tmp_path):
    """A group that may read it can still do so after root, whose umask is often 077, has changed it."""
    path = tmp_path / "tokens"
    path.touch()
    path.chmod(0o640)
    before = os.umask(0o077)
    try:
        Tokens(path).create("ann")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make files for other users")
@pytest.mark.parametrize("given", [None, (7, 9, 0o640)], ids=["new", "existing"])
def test_tokens_made_by_root_can_be_read_by_the_server(tmp_path, given):
    """Who calls `creemson token` with sudo must not lock the server out, whose folder or file it is."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 5, 6)
    path = folder / "tokens"
    expected = (5, 6, 0o600)
    if given is not None:
        expected = given
        path.touch()
        os.chown(path, *given[:2])
        path.chmod(given[2])
    tokens = Tokens(path)
    for change in (lambda: tokens.create("ann"), lambda: tokens.create("bob"), lambda: tokens.revoke("ann")):
        change()
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == expected
        lock = (folder / ".tokens.lock").stat()
        assert (lock.st_uid, lock.st_gid) == (5, 6)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, "\x1b[2J"])
def test_invalid_token_name_is_refused(tokens, name):
    """Names are shown on terminals and in logs."""
    with pytest.raises(ValueError, match="not a name"):
        tokens.create(name)


def test_second_token_of_one_name_is_refused(tokens):
    """With two, it would be unclear which one is revoked."""
    tokens.create("ann")
    with pytest.raises(ValueError, match="revoke it first"):
        tokens.create("ann")
    with pytest.raises(ValueError, match="token list"):
        tokens.revoke("bob")


@given(st.text(max_size=60))
def test_any_other_text_is_not_a_token(tmp_path_factory, text):
    """Any other text is unknown, and no input raises."""
    tokens = Tokens(tmp_path_factory.mktemp("tokens") / "tokens")
    token = tokens.create("ann")
    number = token.split("_")[1]
    for wrong in (text, f"crm_{number}_{text}", token + text if text else token[:-1], f"crm__{text}"):
        assert tokens.find(wrong) is None


def test_corrupt_token_file_is_reported_with_line(tokens):
    """The error names the line; nobody is admitted by mistake."""
    tokens.create("ann")
    with tokens._source.path.open("a") as stream:
        stream.write('{"id": 1}\n')
    with pytest.raises(OSError, match="line 2"):
        tokens.find("x")


def test_missing_token_file_admits_nobody(tokens):
    """It is as if all tokens were revoked."""
    token = tokens.create("ann")
    tokens._source.path.unlink()
    assert tokens.find(token) is None
    assert tokens.entries() == []


def test_concurrent_token_changes_are_all_kept(tokens):
    """Twenty concurrent writers lose no token."""
    threads = [
        threading.Thread(target=Tokens(tokens._source.path).create, args=(f"caller {number}",))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens.entries()) == 20
