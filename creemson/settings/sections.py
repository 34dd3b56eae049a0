"""Every setting once: its name, default, bounds and help, and the road a value takes into the program.

    defaults < TOML file < CREEMSON_SECTION__KEY in the environment < --set section.key=value

A section is a frozen attrs class, so `Settings()` is the documented default and `attrs.evolve` varies it.
Each field carries its own help and expectation; `creemson config`, the error texts and the check of the
reference page read them from there.

typed-settings was tried and left out: its environment loader reads `os.environ` only, its cleaner cannot
name the nearest key, its converter takes `2.9` for a whole number and splits "http://localhost:3000" at its
colons, and it reports a failed validator without the key and without where the value came from.
"""

# ruff: noqa: RUF009 - `_field` and its kin are attrs.field

import difflib
import ipaddress
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import attrs
from attrs import validators

__all__ = [
    "FIELDS",
    "Auth",
    "Described",
    "Limits",
    "Loaded",
    "Log",
    "Processing",
    "Retries",
    "Server",
    "Settings",
    "SettingsError",
    "Storage",
    "Timeouts",
    "cautions",
    "describe",
    "format_bytes",
    "format_seconds",
    "is_loopback",
    "load",
    "parse_bytes",
    "parse_seconds",
    "problems",
]

DEFAULT_FILE = Path("creemson.toml")
PREFIX = "CREEMSON_"


class SettingsError(ValueError):
    """The settings cannot be used; the message has one line per fault, for the person who wrote them."""


# --- units -------------------------------------------------------------------------------------------

_SECONDS: Mapping[str, Fraction] = MappingProxyType(
    {
        "d": Fraction(86_400),
        "h": Fraction(3_600),
        "min": Fraction(60),
        "m": Fraction(60),
        "s": Fraction(1),
        "": Fraction(1),
        "ms": Fraction(1, 1000),
    }
)
_BYTES: Mapping[str, Fraction] = MappingProxyType(
    {f"{letter}ib": Fraction(1024**power) for power, letter in enumerate("kmgt", start=1)}
    | {f"{letter}b": Fraction(1000**power) for power, letter in enumerate("kmgt", start=1)}
    | {"b": Fraction(1), "": Fraction(1)}
)
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)")


def _quantity(text: str, units: Mapping[str, Fraction]) -> Fraction:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        raise SettingsError(f"{text!r} is no number with one of the units {', '.join(filter(None, units))}")
    return Fraction(match[1]) * units[match[2].lower()]


def parse_seconds(value: object) -> float:
    """Read a duration: seconds, or text with a unit (ms, s, min, h, d).

    >>> parse_seconds(2), parse_seconds("500ms"), parse_seconds("7 d")
    (2.0, 0.5, 604800.0)

    Raises:
        SettingsError: it is no finite duration.
    """
    if isinstance(value, str):
        value = _quantity(value, _SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise SettingsError(f"{value!r} is no duration")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise SettingsError("a duration is finite")
    return seconds


def parse_bytes(value: object) -> int:
    """Read a size: bytes, or text with a unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB).

    >>> parse_bytes(512), parse_bytes("1 MiB"), parse_bytes("10MB")
    (512, 1048576, 10000000)

    Raises:
        SettingsError: it is no size.
    """
    return int(_quantity(value, _BYTES)) if isinstance(value, str) else _whole(value)


def format_seconds(seconds: float) -> str:
    """Write a duration in the largest unit that shows it as a whole number.

    >>> format_seconds(86400), format_seconds(300), format_seconds(0.25), format_seconds(0.0001)
    ('1 d', '5 min', '250 ms', '0.0001')
    """
    if seconds == 0:
        return "0"
    for unit in ("d", "h", "min", "s", "ms"):
        count = Fraction(str(seconds)) / _SECONDS[unit]
        if count.denominator == 1:
            return f"{count} {unit}"
    return str(seconds)


def format_bytes(size: int) -> str:
    """Write a size in the largest binary unit that shows it as a whole number.

    >>> format_bytes(10 * 1024**3), format_bytes(1536), format_bytes(1000)
    ('10 GiB', '1536', '1000')
    """
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        count, rest = divmod(size, 1024**power)
        if count and not rest:
            return f"{count} {unit}"
    return str(size)


# --- kinds of fields ---------------------------------------------------------------------------------
# A kind turns what a file, the environment or a test gives into the field's type and refuses everything
# else; `expects` says in words what it takes and is the end of every error text.


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingsError(f"{value!r} is no whole number")
    return value


def _real(value: object) -> float:
    if isinstance(value, str):
        raise SettingsError(f"{value!r} is no number")
    return parse_seconds(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{value!r} is neither true nor false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{value!r} is no text")
    return value


def _text_or_none(value: object) -> str | None:
    # TOML has no null: the empty text is how a later source takes back what an earlier one set.
    return None if value is None else _text(value) or None


def _path(value: object) -> Path:
    if isinstance(value, str) and value:
        value = Path(value)
    if not isinstance(value, Path):
        raise SettingsError(f"{value!r} is no path")
    try:
        # A shell leaves the tilde of --set storage.data_dir=~/data alone.
        return value.expanduser()
    except RuntimeError as error:
        raise SettingsError(str(error)) from error


def _path_or_none(value: object) -> Path | None:
    return None if value in (None, "") else _path(value)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{value!r} is no list")
    return tuple(_text(one) for one in value)


_TEXT_KINDS: tuple[object, ...] = (_text, _text_or_none, _path, _path_or_none)
_ORIGIN = r"\*|[A-Za-z][A-Za-z0-9+.-]*://[^\s/,?#]+"
_LARGEST = 2**63 - 1  # what SQLite and setrlimit can hold


def _field(
    default: Any,
    help: str,  # noqa: A002 - the name that click and argparse gave it
    kind: Callable[[Any], Any],
    expects: str,
    *checks: Callable[[Any, Any, Any], Any],
    secret: bool = False,
    show: Callable[[Any], str] | None = None,
) -> Any:
    return attrs.field(
        default=default,
        converter=kind,
        validator=validators.and_(*checks),
        repr=not secret,
        metadata={"help": help, "expects": expects, "secret": secret, "show": show},
    )


def _count(default: Any, help: str, *, low: int = 1, high: int | None = None) -> Any:  # noqa: A002
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
    checks = [validators.ge(low), validators.le(_LARGEST if high is None else high)]
    return _field(default, help, _whole, f"a whole number {bounds}", *checks)


def _size(default: str, help: str, *, low: int = 1) -> Any:  # noqa: A002
    expects = f'a size of at least {low}: bytes, or with a unit as in "10GiB" or "1 MB"'
    checks = [validators.ge(low), validators.le(_LARGEST)]
    return _field(parse_bytes(default), help, parse_bytes, expects, *checks, show=format_bytes)


def _duration(default: str, help: str, *, zero: bool = False) -> Any:  # noqa: A002
    expects = 'seconds, or a duration with a unit as in "500ms", "10 s", "5min", "24h" or "7 d"'
    bound = validators.ge(0) if zero else validators.gt(0)
    expects += "" if zero else ", more than 0"
    return _field(parse_seconds(default), help, parse_seconds, expects, bound, show=format_seconds)


def _choice(default: str, help: str, *options: str) -> Any:  # noqa: A002
    expects = f"one of {', '.join(options)}"
    return _field(default, help, _text, expects, validators.in_(options))


def _cores() -> int:
    """Count the cores this process may run on, which a container or taskset may have made fewer."""
    return len(os.sched_getaffinity(0))


# --- the settings ------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Server:
    """Where the server listens and whom it serves."""

    host: str = _field(
        "127.0.0.1",
        "address to listen on; one that others can reach needs auth.mode and TLS, or server.insecure",
        _text,
        "an address or host name",
        validators.min_len(1),
    )
    port: int = _count(8000, "port to listen on; 0 lets the system choose", low=0, high=65535)
    insecure: bool = _field(
        False,
        "listen on a non-loopback host without authentication and TLS",
        _flag,
        "true or false",
    )
    tls_cert: Path | None = _field(
        None, "PEM file with the certificate chain; needs server.tls_key", _path_or_none, "a path"
    )
    tls_key: Path | None = _field(
        None, "PEM file with the private key; needs server.tls_cert", _path_or_none, "a path"
    )
    allowed_origins: tuple[str, ...] = _field(
        (),
        'origins of web pages that may connect, besides the server\'s own; "*" allows every page',
        _texts,
        'a list of origins such as ["https://app.example.org"] (no path, no final slash), or "*"',
        validators.deep_iterable(validators.matches_re(_ORIGIN)),
    )
    drain_timeout: float = _duration(
        "10 s",
        "how long running jobs may finish on shutdown; what is left resumes at the next start",
        zero=True,
    )
    transport: Literal["fast", "plain"] = _choice(
        "fast",
        "how WebSocket messages are carried: `fast`, or `plain` trio-websocket and wsproto",
        "fast",
        "plain",
    )


@attrs.frozen(kw_only=True)
class Auth:
    """Who may connect."""

    mode: Literal["none", "token", "jwt"] = _choice(
        "none",
        "how callers prove who they are: `none` (not at all), `token` or `jwt`",
        "none",
        "token",
        "jwt",
    )
    token_file: Path | None = _field(
        None,
        "file with the digests of the tokens; unset: `tokens` in the data folder",
        _path_or_none,
        "a path",
    )
    jwt_key: str | None = _field(
        None, "key, or PEM file, that signatures are checked with", _text_or_none, "text", secret=True
    )
    jwt_algorithms: tuple[str, ...] = _field(
        (), "the only signature algorithms that are accepted", _texts, 'a list of names such as ["RS256"]'
    )
    jwt_audience: str | None = _field(None, "audience that a token must name", _text_or_none, "text")
    timeout: float = _duration("10 s", "time from the handshake to a valid token")


@attrs.frozen(kw_only=True)
class Limits:
    """How much one caller, one connection and the whole server may take."""

    connections: int = _count(10_000, "open connections; more are refused with HTTP 503")
    connections_per_address: int = _count(
        1000, "open connections from one address; more are refused with HTTP 429"
    )
    connections_per_caller: int = _count(
        1000, "open connections of one caller, where callers have to say who they are"
    )
    message_bytes: int = _size("1 MiB", "largest text frame")
    chunk_bytes: int = _size("1 MiB", "largest binary frame")
    batch_messages: int = _count(1000, "most messages in one batch")
    nesting_depth: int = _count(32, "objects and lists within each other in one message")
    upload_bytes: int = _size("10 GiB", "largest uploaded file")
    storage_bytes: int = _size(
        "0", "most bytes that one caller may store, outputs included; 0: no quota", low=0
    )
    messages_per_s: float = _field(
        1000.0,
        "messages per second and connection in the long run, ten times that per caller; else `rate_limited`",
        _real,
        "a number of more than 0",
        validators.gt(0),
    )
    messages_burst: int = _count(2000, "messages that one connection may send at once")
    jobs_per_caller: int = _count(8, "running jobs of one caller; over it: `busy`")
    queue: int = _count(1000, "waiting jobs of all callers; over it: `busy`")
    outbox_bytes: int = _size("8 MiB", "unsent bytes per connection before a slow peer is closed")
    memory_bytes: int = _size(
        "0", "memory in use above which new jobs get `busy`; 0: 80 % of the machine", low=0
    )

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of the messages of one connection that may be in flight; one alone may always be."""
        return 2 * self.message_bytes

    @property
    def connection_bytes(self) -> int:
        """Bytes that one connection can make the server hold at the worst.

        Its unsent answers; the messages in flight, as objects (a list of short numbers has eleven times the size of
        its JSON); and the largest frame some times over: as it comes in, as a message that waits, and the one in
        work, of characters that take four bytes each.
        """
        return self.outbox_bytes + 11 * self.in_flight_bytes + 10 * max(self.message_bytes, self.chunk_bytes)


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long the server waits."""

    handshake: float = _duration("10 s", "for the WebSocket handshake")
    send: float = _duration("30 s", "for a peer to take each 64 KiB of what is sent to it")
    heartbeat_interval: float = _duration("20 s", "between two pings")
    heartbeat_timeout: float = _duration("20 s", "for the answer to a ping before the peer is dropped")
    job: float = _duration("300 s", "for one job; then `job_timeout`")
    upload_idle: float = _duration(
        "24 h",
        "for an unfinished upload to go on; then it is removed",
    )


@attrs.frozen(kw_only=True)
class Retries:
    """What is tried again."""

    job: int = _count(3, "tries again, with backoff, of a job whose worker died or met transient I/O", low=0)


@attrs.frozen(kw_only=True)
class Storage:
    """Where files are kept, and how long."""

    data_dir: Path = _field(
        Path("creemson-data"), "folder for uploads, outputs and the catalog", _path, "a path"
    )
    keep_uploads: float = _duration("7 d", "how long an uploaded file is kept after its last use")
    keep_outputs: float = _duration("1 d", "how long a job's output is kept after its last use")


@attrs.frozen(kw_only=True)
class Processing:
    """What does the work."""

    workers: int = _count(attrs.Factory(_cores), "worker processes; unset: one per usable core")
    worker_memory_bytes: int = _size("0", "memory of one worker; 0: its share of the machine", low=0)
    nice: int = _count(19, "niceness of the workers, so that they never starve the server", low=0, high=19)
    engine: Literal["local", "dask"] = _choice("local", "where jobs run: `local` or `dask`", "local", "dask")
    dask_scheduler: str | None = _field(
        None, "address of the Dask scheduler, for the engine `dask`", _text_or_none, "text"
    )


@attrs.frozen(kw_only=True)
class Log:
    """What is logged, and how."""

    format: Literal["auto", "console", "json"] = _choice(
        "auto",
        "`console`, `json`, or `auto`: `console` on a terminal and else `json`",
        "auto",
        "console",
        "json",
    )
    level: Literal["debug", "info", "warning", "error"] = _choice(
        "info",
        "least severity that is logged: `debug`, `info`, `warning` or `error`",
        "debug",
        "info",
        "warning",
        "error",
    )


@attrs.frozen
class Settings:
    """All settings of a server, section by section."""

    server: Server = attrs.field(factory=Server)
    auth: Auth = attrs.field(factory=Auth)
    limits: Limits = attrs.field(factory=Limits)
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    retries: Retries = attrs.field(factory=Retries)
    storage: Storage = attrs.field(factory=Storage)
    processing: Processing = attrs.field(factory=Processing)
    log: Log = attrs.field(factory=Log)


_SECTIONS: Mapping[str, type[attrs.AttrsInstance]] = MappingProxyType(
    {section.name: section.type for section in attrs.fields(Settings) if section.type is not None}
)
FIELDS: Mapping[str, "attrs.Attribute[Any]"] = MappingProxyType(
    {f"{name}.{field.name}": field for name, cls in _SECTIONS.items() for field in attrs.fields(cls)}
)
"""Every setting by its dotted name; `metadata["help"]` is its line of help."""

_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {PREFIX + key.upper().replace(".", "__"): key for key in FIELDS}
)


# --- loading -----------------------------------------------------------------------------------------


@attrs.frozen
class Loaded:
    """Settings and where each came from.

    Attributes:
        settings: the settings.
        origins: by dotted name: `default`, the path of the file, the environment variable, or `--set`.
    """

    settings: Settings
    origins: Mapping[str, str]


class _Entry(NamedTuple):
    name: str  # as written in its source
    key: str | None  # the setting, if there is one of that name
    value: object
    origin: str


def load(*, config: Path | None, environ: Mapping[str, str], overrides: Sequence[str]) -> Loaded:
    """Gather the settings from all sources.

    Args:
        config: the TOML file; None means `creemson.toml` in the current folder, if there is one.
        environ: the environment, of which the variables `CREEMSON_SECTION__KEY` count.
        overrides: the values of `--set`, `section.key=value` each; a later one wins.

    Raises:
        SettingsError: anything that is unknown or wrong in any source, all of it at once.
    """
    faults: list[str] = []
    values: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    origins = dict.fromkeys(FIELDS, "default")
    for entry in (*_from_file(config), *_from_environment(environ), *_from_overrides(overrides)):
        if entry.key is None:
            faults.append(_unknown(entry))
            continue
        section, _, name = entry.key.partition(".")
        try:
            values[section][name] = _checked(FIELDS[entry.key], entry.value)
        except ValueError:
            faults.append(_wrong(entry, FIELDS[entry.key]))
        origins[entry.key] = entry.origin
    if faults:
        raise SettingsError("\n".join(faults))
    sections: dict[str, Any] = {name: cls(**values[name]) for name, cls in _SECTIONS.items()}
    return Loaded(Settings(**sections), MappingProxyType(origins))


def _checked(field: "attrs.Attribute[Any]", value: object) -> Any:
    """Do to one value what the class would do, so that its fault can be told with its key and origin."""
    convert: Any = field.converter
    check: Any = field.validator
    converted = convert(value)
    check(None, field, converted)
    return converted


def _from_file(config: Path | None) -> Iterator[_Entry]:
    path = DEFAULT_FILE if config is None else config
    try:
        # utf-8-sig: editors on Windows put a byte order mark in front, which TOML refuses.
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        if config is None:
            return
        raise SettingsError(f"There is no settings file {path}.") from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error}") from error
    for section, table in document.items():
        if isinstance(table, dict) and (table or section in _SECTIONS):
            for name, value in table.items():
                key = f"{section}.{name}"
                yield _Entry(key, key if key in FIELDS else None, value, str(path))
        else:
            yield _Entry(section, None, table, str(path))


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Entry]:
    for name, text in sorted(environ.items()):
        # Not every variable with the prefix is a setting: Kubernetes gives each pod CREEMSON_PORT and
        # CREEMSON_SERVICE_HOST if there is a service of that name. One underscore too few is a slip, though.
        word = name.removeprefix(PREFIX).partition("_")[0].lower()
        if name.startswith(PREFIX) and ("__" in name or word in _SECTIONS):
            key = _ENVIRONMENT.get(name)
            yield _Entry(name, key, _typed(key, text), name)


def _from_overrides(overrides: Sequence[str]) -> Iterator[_Entry]:
    for override in overrides:
        name, equals, text = override.partition("=")
        name = name.strip()
        if not equals:
            raise SettingsError(
                f'--set takes section.key=value, for example limits.queue=10, not "{override}".'
            )
        key = name if name in FIELDS else None
        yield _Entry(name, key, _typed(key, text.strip()), "--set")


def _typed(key: str | None, text: str) -> object:
    """Read text as a TOML value; what is none, is a bare word."""
    if key is None:
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    value = document.pop("value")
    if document:  # a line break in the text began a second key
        return text
    # A folder may be named 2024, which TOML reads as a number.
    return value if isinstance(value, str) or FIELDS[key].converter not in _TEXT_KINDS else text


def _unknown(entry: _Entry) -> str:
    known = _ENVIRONMENT if entry.origin == entry.name else FIELDS
    nearest = difflib.get_close_matches(entry.name, known, n=1, cutoff=0)[0]
    source = "" if entry.origin == entry.name else f" ({entry.origin})"
    return f'There is no setting "{entry.name}"{source}; the nearest is "{nearest}".'


def _wrong(entry: _Entry, field: "attrs.Attribute[Any]") -> str:
    value = "***" if field.metadata["secret"] else _literal(entry.value)
    return f"{entry.key} = {value} ({entry.origin}): expected {field.metadata['expects']}."


def _literal(value: object) -> str:
    """Write a value as TOML would, near enough to be recognised."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


# --- showing and checking ----------------------------------------------------------------------------


class Described(NamedTuple):
    """One line of `creemson config`."""

    key: str
    value: str
    origin: str
    help: str


def describe(loaded: Loaded) -> list[Described]:
    """List every setting with its value as text, where it came from, and what it is for.

    The text is what `--set` takes; it is empty for what is not set, and `***` for a secret.
    """
    return [
        Described(key, _shown(loaded.settings, key, field), loaded.origins[key], field.metadata["help"])
        for key, field in FIELDS.items()
    ]


def _value(settings: Settings, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


def _shown(settings: Settings, key: str, field: "attrs.Attribute[Any]") -> str:
    value = _value(settings, key)
    if value is None:
        return ""
    if field.metadata["secret"]:
        return "***"
    show: Callable[[Any], str] | None = field.metadata["show"]
    if show is not None:
        return show(value)
    return str(value) if isinstance(value, str | Path) else _literal(value)


_NOT_BUILT: Mapping[str, str] = MappingProxyType(
    {"processing.engine": "the Dask engine", "processing.dask_scheduler": "the Dask engine"}
)


def problems(settings: Settings) -> list[str]:
    """Say why a server must not start with these settings, and what to do; nothing, if it may."""
    found = []
    server = settings.server
    encrypted = server.tls_cert is not None and server.tls_key is not None
    missing = [
        what
        for what, there in (
            ("authentication (auth.mode)", settings.auth.mode != "none"),
            ("TLS (server.tls_cert, server.tls_key)", encrypted),
        )
        if not there
    ]
    if missing and not server.insecure and not is_loopback(server.host):
        found.append(
            f'server.host = "{server.host}" lets other machines in, without {" and ".join(missing)}. '
            "Listen on 127.0.0.1, if need be behind a proxy that adds both, or accept the risk with "
            "server.insecure = true."
        )
    if (server.tls_cert is None) != (server.tls_key is None):
        given, absent = ("key", "cert") if server.tls_cert is None else ("cert", "key")
        found.append(f"server.tls_{given} is set without server.tls_{absent}: set both or neither.")
    default = Settings()
    for key, what in _NOT_BUILT.items():
        if _value(settings, key) != _value(default, key):
            found.append(f"{key} is set, but {what} is not available in this version: remove the setting.")
    return found


def cautions(settings: Settings) -> list[str]:
    """Say what is allowed in these settings but deserves a warning when the server starts."""
    found = []
    if "*" in settings.server.allowed_origins:
        found.append('server.allowed_origins has "*": any web page may connect as its visitor.')
    if settings.server.insecure and not is_loopback(settings.server.host):
        found.append(f"server.insecure = true: whoever reaches {settings.server.host} may use this server.")
    return found


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach a server at that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Any other name may resolve to anything, and to something else tomorrow.
        return host.lower() == "localhost"
