"""Opaque tokens: what the file holds, and what it does not."""

import json
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.server.tokens import Tokens


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path / "tokens", clock=lambda: 5.0)


def test_a_token_is_found_until_it_is_revoked(tokens):
    """By whoever looks at the same file."""
    ann, bob = tokens.create("ann"), tokens.create("bob")
    other = Tokens(tokens._path)
    assert (other.find(ann).name, other.find(bob).name) == ("ann", "bob")
    assert [entry.name for entry in other.entries()] == ["ann", "bob"]
    number = other.find(ann).id
    tokens.revoke("ann")
    assert other.find(ann) is None
    assert not other.knows(number)
    assert other.find(bob).name == "bob"


def test_the_file_has_no_token(tokens):
    """Only salted digests, readable by nobody else."""
    made = [tokens.create(name) for name in ("ann", "bob")]
    text = tokens._path.read_text()
    for token in made:
        assert token.split("_", 2)[2] not in text
    rows = [json.loads(line) for line in text.splitlines()]
    assert len({row["salt"] for row in rows}) == 2
    assert all(len(bytes.fromhex(row["digest"])) == 32 for row in rows)
    assert stat.S_IMODE(tokens._path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, "\x1b[2J"])
def test_a_name_is_a_name(tokens, name):
    """It is shown on terminals and in logs."""
    with pytest.raises(ValueError, match="no name"):
        tokens.create(name)


def test_a_name_has_one_token(tokens):
    """A second one would make it unclear which is revoked."""
    tokens.create("ann")
    with pytest.raises(ValueError, match="revoke it first"):
        tokens.create("ann")
    with pytest.raises(ValueError, match="token list"):
        tokens.revoke("bob")


@given(st.text(max_size=60))
def test_nothing_else_is_a_token(tmp_path_factory, text):
    """Whatever is given: it is not known, and nothing breaks."""
    tokens = Tokens(tmp_path_factory.mktemp("tokens") / "tokens")
    token = tokens.create("ann")
    number = token.split("_")[1]
    for wrong in (text, f"crm_{number}_{text}", token + text if text else token[:-1], f"crm__{text}"):
        assert tokens.find(wrong) is None


def test_a_file_that_makes_no_sense_is_told_of(tokens):
    """With the line; nobody is let in by mistake."""
    tokens.create("ann")
    with tokens._path.open("a") as stream:
        stream.write('{"id": 1}\n')
    with pytest.raises(OSError, match="line 2"):
        tokens.find("x")


def test_a_missing_file_knows_nobody(tokens):
    """It is as if all were revoked."""
    token = tokens.create("ann")
    tokens._path.unlink()
    assert tokens.find(token) is None
    assert tokens.entries() == []


def test_changes_at_the_same_time_are_all_kept(tokens):
    """Two people at two terminals."""
    threads = [
        threading.Thread(target=Tokens(tokens._path).create, args=(f"caller {number}",))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens.entries()) == 20
