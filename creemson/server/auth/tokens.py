"""Opaque tokens, and the file with their digests, which contains nothing that can be used to authenticate.

Several servers have them in their catalog instead. Each line of the file is a JSON object:
``{"id": …, "name": …, "salt": …, "digest": …, "created": …}``.

A token is ``crm_ID_SECRET`` with 256 random bits. A salted SHA-256 is enough for it: slow hashes are needed for
passwords that people can remember (OWASP, Password Storage Cheat Sheet).
"""

import contextlib
import fcntl
import hashlib
import hmac
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import attrs
import orjson

from creemson.catalog.shared.tokens import Entry
from creemson.storage import durable

__all__ = ["Entry", "TokenSource", "Tokens"]

PREFIX = "crm"
"""Beginning of each token, so that scanners for leaked secrets recognize tokens."""
MAX_NAME = 100
"""Maximum number of characters of a name."""


class TokenSource(Protocol):
    """Where the tokens are. Every method may be called from any thread, and raises OSError if they cannot be used."""

    def current(self) -> Mapping[str, Entry]:
        """Return the entries by id, without a network; a change by others may be missing for half a second."""

    def latest(self) -> Mapping[str, Entry]:
        """Return the entries by id, with all changes."""

    def add(self, entry: Entry) -> bool:
        """Add a token; return whether its name was free."""

    def remove(self, name: str) -> bool:
        """Remove a token; return whether there was one of this name."""


class Tokens:
    """The tokens.

    Args:
        source: where they are; or the path of a file, which need not exist.
        clock: returns seconds since 1970.
    """

    def __init__(self, source: TokenSource | Path, *, clock: Callable[[], float] = time.time) -> None:
        self._source = TokenFile(source) if isinstance(source, Path) else source
        self._clock = clock

    def create(self, name: str) -> str:
        """Create a token.

        Args:
            name: name of the caller.

        Returns:
            The token. It is not stored and cannot be shown again.

        Raises:
            ValueError: the name is taken or invalid.
            OSError: the tokens cannot be written or are invalid.
        """
        if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise ValueError(f"{name!r} is not a name: use 1 to {MAX_NAME} printable characters.")
        token_id, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_hex(16)
        token = f"{PREFIX}_{token_id}_{secret}"
        entry = Entry(token_id, name, salt, _digest(salt, token), round(self._clock(), 3))
        if not self._source.add(entry):
            raise ValueError(f"There is already a token {name!r}: revoke it first, or choose another name.")
        return token

    def revoke(self, name: str) -> None:
        """Revoke a token.

        Raises:
            ValueError: there is no token with this name.
            OSError: the tokens cannot be written or are invalid.
        """
        if not self._source.remove(name):
            raise ValueError(f"There is no token {name!r}; `creemson token list` shows all tokens.")

    def entries(self) -> list[Entry]:
        """Return all tokens, the oldest first.

        Raises:
            OSError: the tokens cannot be read or are invalid.
        """
        return list(self._source.latest().values())

    def find(self, token: str) -> Entry | None:
        """Return the entry of a token; None if the token is unknown. Compares in constant time.

        Raises:
            OSError: the tokens cannot be read or are invalid.
        """
        token_id = token.split("_", 2)[1] if token.count("_") >= 2 else ""
        # Not the latest ones: each stranger who tries a token would cost a read of the database.
        entry = self._source.current().get(token_id)
        salt, digest = (entry.salt, entry.digest) if entry is not None else ("", "")
        same = hmac.compare_digest(_digest(salt, token), digest)
        return entry if same else None

    def knows(self, token_id: str) -> bool:
        """Whether there is still a token with this id.

        Raises:
            OSError: the tokens cannot be read or are invalid.
        """
        return token_id in self._source.current()


class TokenFile:
    """The token file. It is checked for changes at each access, so a change takes effect at once.

    Attributes:
        path: path of the file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None  # identifies the version of the file that was read last
        self._entries: Mapping[str, Entry] = {}

    def current(self) -> Mapping[str, Entry]:
        """Return the entries by id; reads the file again if it has changed."""
        with self._lock:
            try:
                status = self.path.stat()
                seen: tuple[int, ...] = (
                    status.st_ino,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                )
                if seen != self._seen:
                    self._entries = {entry.id: entry for entry in _parse(self.path)}
                    self._seen = seen
            except FileNotFoundError:
                self._entries, self._seen = {}, None
            return self._entries

    latest = current

    def add(self, entry: Entry) -> bool:
        """Add a token; return whether its name was free."""
        with self._changing() as entries:
            if any(other.name == entry.name for other in entries):
                return False
            entries.append(entry)
        return True

    def remove(self, name: str) -> bool:
        """Remove a token; return whether there was one of this name."""
        with self._changing() as entries:
            kept = [entry for entry in entries if entry.name != name]
            found = len(kept) < len(entries)
            entries[:] = kept
        return found

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        """Yield the entries; if they were changed, replace the file durably. Only one process at a time does this.

        Root may do it for a server of another user, who must still be able to read the file, and to change it.
        """
        durable.make_folders([self.path.parent])
        folder = self.path.parent.stat()
        with self.path.with_name(f".{self.path.name}.lock").open("wb") as lock:
            durable.give_away(lock.fileno(), (folder.st_uid, folder.st_gid))
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = list(self.current().values())
            entries = list(before)
            yield entries
            if entries != before:
                lines = [
                    orjson.dumps(attrs.asdict(entry), option=orjson.OPT_APPEND_NEWLINE) for entry in entries
                ]
                try:
                    status = self.path.stat()
                    mode = stat.S_IMODE(status.st_mode)  # a group may read it, if somebody has allowed that
                except FileNotFoundError:
                    status, mode = folder, 0o600
                durable.write(self.path, b"".join(lines), mode=mode, owner=(status.st_uid, status.st_gid))


def _parse(path: Path) -> Iterator[Entry]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield Entry(**orjson.loads(line))
        except (ValueError, TypeError) as error:
            raise OSError(
                f"The token file {path} is invalid in line {number}: restore it, or remove that line."
            ) from error


def _digest(salt: str, token: str) -> str:
    return hashlib.sha256(f"{salt}{token}".encode(errors="surrogatepass")).hexdigest()
