"""Opaque tokens: a file that holds their digests, and nothing that could be used to get in.

    {"id": …, "name": …, "salt": …, "digest": …, "created": …}     one line each

A token is ``crm_ID_SECRET`` with 256 random bits. A salted SHA-256 is enough for these: slow hashes are for
what people can remember (OWASP, Password Storage Cheat Sheet).
"""

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import orjson

__all__ = ["Entry", "Tokens"]

PREFIX = "crm"
"""By it, scanners for leaked secrets can tell what they have found."""
MAX_NAME = 100


@attrs.frozen
class Entry:
    """What is kept of a token.

    Attributes:
        id: a part of the token that is no secret.
        name: of the caller who has it.
        salt, digest: in hexadecimal.
        created: seconds since 1970.
    """

    id: str
    name: str
    salt: str
    digest: str
    created: float


class Tokens:
    """The file of tokens. It is looked at whenever somebody comes, so a change takes effect at once.

    Args:
        path: of the file; there need not be one.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._entries: Mapping[str, Entry] = {}

    def create(self, name: str) -> str:
        """Make a token.

        Args:
            name: of the caller.

        Returns:
            The token, which nothing but the caller knows from now on.

        Raises:
            ValueError: the name is taken, or makes no name.
            OSError: the file cannot be written or makes no sense.
        """
        if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise ValueError(f"{name!r} is no name: give 1 to {MAX_NAME} printable characters.")
        with self._changing() as entries:
            if any(entry.name == name for entry in entries):
                raise ValueError(
                    f"There is a token {name!r} already: revoke it first, or choose another name."
                )
            number, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_hex(16)
            token = f"{PREFIX}_{number}_{secret}"
            entries.append(Entry(number, name, salt, _digest(salt, token), round(self._clock(), 3)))
        return token

    def revoke(self, name: str) -> None:
        """Let a token be good for nothing.

        Raises:
            ValueError: there is none of that name.
            OSError: the file cannot be written or makes no sense.
        """
        with self._changing() as entries:
            kept = [entry for entry in entries if entry.name != name]
            if len(kept) == len(entries):
                raise ValueError(f"There is no token {name!r}; `creemson token list` shows those there are.")
            entries[:] = kept

    def entries(self) -> list[Entry]:
        """All tokens, the oldest first.

        Raises:
            OSError: the file cannot be read or makes no sense.
        """
        return list(self._current().values())

    def find(self, token: str) -> Entry | None:
        """Whose token it is; it takes as long for a token that is near to one as for any other.

        Raises:
            OSError: the file cannot be read or makes no sense.
        """
        number = token.split("_", 2)[1] if token.count("_") >= 2 else ""
        entry = self._current().get(number)
        salt, digest = (entry.salt, entry.digest) if entry is not None else ("", "")
        same = hmac.compare_digest(_digest(salt, token), digest)
        return entry if same else None

    def knows(self, number: str) -> bool:
        """Whether there is (still) a token with this id.

        Raises:
            OSError: the file cannot be read or makes no sense.
        """
        return number in self._current()

    def _current(self) -> Mapping[str, Entry]:
        """What the file says, read anew when it has changed."""
        with self._lock:
            try:
                status = self._path.stat()
                seen: tuple[int, ...] = (
                    status.st_ino,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                )
                if seen != self._seen:
                    self._entries = {entry.id: entry for entry in _parse(self._path)}
                    self._seen = seen
            except FileNotFoundError:
                self._entries, self._seen = {}, None
            return self._entries

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        """The entries, to be changed; the file is replaced as a whole, and by one process at a time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f".{self._path.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = self.entries()
            yield entries
            part = self._path.with_name(f".{self._path.name}.tmp")
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as stream:
                for entry in entries:
                    stream.write(orjson.dumps(attrs.asdict(entry), option=orjson.OPT_APPEND_NEWLINE))
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self._path)


def _parse(path: Path) -> Iterator[Entry]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield Entry(**orjson.loads(line))
        except (ValueError, TypeError) as error:
            raise OSError(
                f"The token file {path} makes no sense in line {number}: restore it, or remove that line."
            ) from error


def _digest(salt: str, token: str) -> str:
    return hashlib.sha256(f"{salt}{token}".encode(errors="surrogatepass")).hexdigest()
