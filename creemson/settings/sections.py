"""Every setting: its name, default, bounds and help.

A section is a frozen attrs class, so `Settings()` is the documented default and `attrs.evolve` varies it.
Each field carries its help and a description of valid values; `creemson config`, the error messages and the test of
the reference page use them.

Why not typed-settings: its environment loader reads `os.environ` only, it cannot suggest the nearest key, its
converter accepts `2.9` as an integer and splits "http://localhost:3000" at the colons, and a failed validator is
reported without the key and the origin of the value.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import attrs
from attrs import validators

from creemson.settings.fields import (
    ORIGIN,
    choice_setting,
    core_count,
    count_setting,
    duration_setting,
    optional_count_setting,
    optional_size_setting,
    setting,
    size_setting,
    to_bucket_url_or_none,
    to_database_url_or_none,
    to_flag,
    to_path,
    to_path_or_none,
    to_real,
    to_text,
    to_text_or_none,
    to_texts,
)

__all__ = [
    "FIELDS",
    "SECTIONS",
    "Auth",
    "Catalog",
    "Limits",
    "Log",
    "Processing",
    "Retries",
    "Server",
    "Settings",
    "Storage",
    "Timeouts",
]


@attrs.frozen(kw_only=True)
class Server:
    """Where the server listens and which clients it accepts."""

    host: str = setting(
        "127.0.0.1",
        "address to listen on; a non-loopback address requires auth.mode and TLS, or server.insecure",
        to_text,
        "an address or host name",
        validators.min_len(1),
    )
    port: int = count_setting(
        8000, "port to listen on; 0 lets the operating system choose", low=0, high=65535
    )
    insecure: bool = setting(
        False,
        "allow a non-loopback host without authentication and TLS",
        to_flag,
        "true or false",
    )
    tls_cert: Path | None = setting(
        None, "PEM file with the certificate chain; requires server.tls_key", to_path_or_none, "a path"
    )
    tls_key: Path | None = setting(
        None, "PEM file with the private key; requires server.tls_cert", to_path_or_none, "a path"
    )
    allowed_origins: tuple[str, ...] = setting(
        (),
        'origins of web pages that may connect, in addition to the server\'s own; "*" allows all',
        to_texts,
        'a list of origins such as ["https://app.example.org"] (no path, no final slash), or "*"',
        validators.deep_iterable(validators.matches_re(ORIGIN)),
    )
    reuse_port: bool = setting(
        False,
        "share the port with other servers here; requires server.processes, `catalog.url` and `storage.url`",
        to_flag,
        "true or false",
    )
    processes: int = count_setting(
        1, "number of servers on this machine, each started by itself, that share its cores and memory"
    )
    drain_timeout: float = duration_setting(
        "10 s",
        "time for running jobs to finish on shutdown; unfinished jobs resume at the next start",
        zero=True,
    )
    transport: Literal["fast", "plain"] = choice_setting(
        "fast",
        "WebSocket implementation: `fast`, or `plain` (trio-websocket and wsproto)",
        "fast",
        "plain",
    )


@attrs.frozen(kw_only=True)
class Auth:
    """Who may connect."""

    mode: Literal["none", "token", "jwt"] = choice_setting(
        "none",
        "how callers authenticate: `none`, `token` or `jwt`",
        "none",
        "token",
        "jwt",
    )
    token_file: Path | None = setting(
        None,
        "token digests; default: `tokens` in the data folder; not used by servers that share a catalog",
        to_path_or_none,
        "a path",
    )
    jwt_key: str | None = setting(
        None, "key, or path of a PEM file, to verify signatures with", to_text_or_none, "text", secret=True
    )
    jwt_algorithms: tuple[str, ...] = setting(
        (), "accepted signature algorithms", to_texts, 'a list of names such as ["RS256"]'
    )
    jwt_audience: str | None = setting(None, "required audience of a token", to_text_or_none, "text")
    jwt_leeway: float = duration_setting(
        "10 s",
        "by how much the clocks of issuer and server may differ, for `exp`, `nbf` and `iat` of a JWT",
        zero=True,
    )
    timeout: float = duration_setting(
        "10 s", "time after the handshake within which a valid token must arrive"
    )


MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""The largest answer, whatever the limits are; see :attr:`Limits.answer_bytes`."""


@attrs.frozen(kw_only=True)
class Limits:
    """Limits of one caller, one connection and the whole server."""

    connections: int = count_setting(10_000, "maximum open connections; more are refused with HTTP 503")
    connections_per_address: int = count_setting(
        1000, "maximum open connections from one address; more are refused with HTTP 429"
    )
    connections_per_caller: int = count_setting(1000, "maximum open connections of one authenticated caller")
    message_bytes: int = size_setting("1 MiB", "maximum size of a text message")
    chunk_bytes: int = size_setting("1 MiB", "maximum size of a binary message")
    batch_messages: int = count_setting(1000, "maximum messages in one batch")
    nesting_depth: int = count_setting(32, "maximum nesting of objects and lists in one message")
    upload_bytes: int = size_setting("10 GiB", "maximum size of an uploaded file")
    storage_bytes: int = size_setting(
        "0", "storage quota of one caller, outputs included; 0: no quota", low=0
    )
    messages_per_s: float = setting(
        1000.0,
        "sustained messages per second and connection, ten times that per caller; above it: `rate_limited`",
        to_real,
        "a number greater than 0",
        validators.gt(0),
    )
    messages_burst: int = count_setting(2000, "messages that one connection may send in a burst")
    jobs_per_caller: int = count_setting(8, "maximum running jobs of one caller; further jobs wait")
    queue: int = count_setting(1000, "maximum waiting jobs of all callers; above it: `busy`")
    queue_per_caller: int | None = optional_count_setting(
        "maximum waiting jobs of one caller; default: a fifth of limits.queue, or all without authentication"
    )
    results_per_caller: int | None = optional_count_setting(
        "maximum remembered jobs of one caller, with 4 MiB of results; default: 200 (see below)"
    )
    lookups_per_caller: int | None = optional_count_setting(
        "maximum waiting requests of one caller for columns or rows; default: 100 (see below)"
    )
    outbox_bytes: int = size_setting("8 MiB", "maximum unsent bytes of a connection before it is closed")
    memory_bytes: int = size_setting(
        "0",
        "memory use above which new jobs are refused with `busy`; 0: 80 % of the server's share",
        low=0,
    )

    @property
    def in_flight_bytes(self) -> int:
        """Maximum bytes of one connection's messages in flight; a single message is always allowed."""
        return 2 * self.message_bytes

    @property
    def answer_bytes(self) -> int:
        """Maximum bytes of one answer, as JSON; one that can be shortened has at most ``message_bytes``.

        A larger one would overflow the outbox of its connection. And the catalog must be able to record it: a row of
        SQLite has at most 10^9 bytes (sqlite.org/limits.html).
        """
        return min(max(self.message_bytes, self.outbox_bytes), MAX_ANSWER_BYTES)

    @property
    def connection_bytes(self) -> int:
        """Maximum memory that one connection can take, in bytes.

        It is the sum of the unsent answers, of the messages in flight as objects (a list of short numbers takes eleven
        times the size of its JSON), and of several copies of the largest message: while it is received, while it
        waits, and while it is handled, with up to four bytes per character.
        """
        return self.outbox_bytes + 11 * self.in_flight_bytes + 10 * max(self.message_bytes, self.chunk_bytes)


@attrs.frozen(kw_only=True)
class Timeouts:
    """Timeouts and intervals."""

    handshake: float = duration_setting("10 s", "time limit of the WebSocket handshake")
    send: float = duration_setting("30 s", "time limit for sending each 64 KiB to a peer")
    heartbeat_interval: float = duration_setting("20 s", "interval between two pings")
    heartbeat_timeout: float = duration_setting(
        "20 s", "time to wait for the answer to a ping before the connection is closed"
    )
    job: float = duration_setting("300 s", "time limit of one job; above it: `job_timeout`")
    upload_idle: float = duration_setting(
        "24 h",
        "time after which an unfinished, inactive upload is removed",
    )


@attrs.frozen(kw_only=True)
class Retries:
    """Retries."""

    job: int = count_setting(
        3, "retries, with backoff, of a job whose worker died or had a transient I/O error", low=0
    )


@attrs.frozen(kw_only=True)
class Storage:
    """Where files are stored, and for how long."""

    data_dir: Path = setting(
        Path("creemson-data"), "folder for uploads, outputs and the catalog", to_path, "a path"
    )
    keep_uploads: float = duration_setting("7 d", "time that an uploaded file is kept after its last use")
    keep_outputs: float = duration_setting("1 d", "time that a job's output is kept after its last use")
    tables: Literal["auto", "never"] = choice_setting(
        "auto",
        "columnar copies of uploaded files, which make later work on them fast: `auto`, or `never`",
        "auto",
        "never",
    )
    tables_bytes: int | None = optional_size_setting(
        "maximum size of all columnar copies; default: a quarter of the free disk"
    )
    url: str | None = setting(
        None,
        "object store for uploads and outputs, instead of the data folder: `s3://BUCKET/PREFIX`",
        to_bucket_url_or_none,
        "the URL of a bucket with a prefix of letters, digits, `.`, `_` and `-`, as in `s3://bucket/creemson`",
    )
    scratch_bytes: int | None = optional_size_setting(
        "maximum size of workers' copies of files in an object store; default: a quarter of the free disk"
    )


@attrs.frozen(kw_only=True)
class Catalog:
    """Where it is recorded which files and jobs there are."""

    url: str | None = setting(
        None,
        "PostgreSQL database for the catalog, instead of a file: `postgresql://USER@HOST/NAME`",
        to_database_url_or_none,
        "a URL such as `postgresql://creemson@db.example.org/creemson`",
        secret=True,
    )


@attrs.frozen(kw_only=True)
class Processing:
    """Worker processes."""

    workers: int = count_setting(
        attrs.Factory(core_count),
        "number of worker processes; default: one per usable core, divided by server.processes",
        high=1000,
    )
    worker_memory_bytes: int = size_setting(
        "0", "memory limit of one worker; 0: its share of the server's memory", low=0
    )
    nice: int = count_setting(
        19, "niceness of the workers, so that they do not starve the server", low=0, high=19
    )
    engine: Literal["local", "dask"] = choice_setting(
        "local",
        "where jobs run: `local`, or `dask` for large ones on the workers of a Dask cluster",
        "local",
        "dask",
    )
    dask_scheduler: str | None = setting(
        None,
        'address of the Dask scheduler, for `processing.engine = "dask"`: `tls://HOST:PORT`',
        to_text_or_none,
        "text",
    )
    dask_least_bytes: int = size_setting(
        "16MiB", "size of a file from which on its jobs run on the Dask cluster; smaller ones run here", low=0
    )
    dask_part_bytes: int = size_setting(
        "256MiB",
        "least bytes of a file that each of several Dask workers gets if they share a job; 0: none do",
        low=0,
    )
    dask_ca: Path | None = setting(
        None, "PEM file of the authority of the Dask cluster's certificates", to_path_or_none, "a path"
    )
    dask_cert: Path | None = setting(
        None, "PEM file with the certificate that is shown to the Dask cluster", to_path_or_none, "a path"
    )
    dask_key: Path | None = setting(
        None, "PEM file with the private key of processing.dask_cert", to_path_or_none, "a path"
    )


@attrs.frozen(kw_only=True)
class Log:
    """Logging."""

    format: Literal["auto", "console", "json"] = choice_setting(
        "auto",
        "`console`, `json`, or `auto`: `console` on a terminal, otherwise `json`",
        "auto",
        "console",
        "json",
    )
    level: Literal["debug", "info", "warning", "error"] = choice_setting(
        "info",
        "minimum severity: `debug`, `info`, `warning` or `error`",
        "debug",
        "info",
        "warning",
        "error",
    )


@attrs.frozen
class Settings:
    """All settings of a server, by section."""

    server: Server = attrs.field(factory=Server)
    auth: Auth = attrs.field(factory=Auth)
    limits: Limits = attrs.field(factory=Limits)
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    retries: Retries = attrs.field(factory=Retries)
    storage: Storage = attrs.field(factory=Storage)
    catalog: Catalog = attrs.field(factory=Catalog)
    processing: Processing = attrs.field(factory=Processing)
    log: Log = attrs.field(factory=Log)

    @property
    def is_shared(self) -> bool:
        """Whether several servers may serve the same files and jobs: what is known and all bytes are elsewhere."""
        return self.catalog.url is not None and self.storage.url is not None


SECTIONS: Mapping[str, type[attrs.AttrsInstance]] = MappingProxyType(
    {section.name: section.type for section in attrs.fields(Settings) if section.type is not None}
)
FIELDS: Mapping[str, "attrs.Attribute[Any]"] = MappingProxyType(
    {f"{name}.{field.name}": field for name, cls in SECTIONS.items() for field in attrs.fields(cls)}
)
"""Every setting by its dotted name; `metadata["help"]` is its help."""
