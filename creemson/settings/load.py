"""Loads the settings.

Later sources override earlier ones:

defaults < TOML file < CREEMSON_SECTION__KEY in the environment < --set section.key=value < other flags
"""

import difflib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs

from creemson.settings.fields import TEXT_KINDS
from creemson.settings.sections import FIELDS, SECTIONS, Settings
from creemson.settings.units import SettingsError

__all__ = ["DEFAULT_FILE", "PREFIX", "Loaded", "load", "toml_literal"]

DEFAULT_FILE = Path("creemson.toml")
PREFIX = "CREEMSON_"
_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {PREFIX + key.upper().replace(".", "__"): key for key in FIELDS}
)


@attrs.frozen
class Loaded:
    """Effective settings, and the origin of each.

    Attributes:
        settings: the settings.
        origins: by dotted name: `default`, the path of the file, the environment variable, `--set`, or the flag.
    """

    settings: Settings
    origins: Mapping[str, str]


class _Entry(NamedTuple):
    name: str  # as in its source
    key: str | None  # the setting; None if no setting has this name
    value: object
    origin: str


def load(
    *,
    config: Path | None,
    environ: Mapping[str, str],
    overrides: Sequence[str],
    flags: Mapping[str, object] = MappingProxyType({}),
) -> Loaded:
    """Load the settings from all sources.

    Args:
        config: the TOML file; None: `creemson.toml` in the current folder, if it exists.
        environ: the environment; only variables `CREEMSON_SECTION__KEY` are used.
        overrides: the values of `--set`, `section.key=value` each; the last one wins.
        flags: values of other flags, by dotted name. They are not TOML, which cannot express every path.

    Raises:
        SettingsError: unknown or invalid values in any source, all in one message.
    """
    faults: list[str] = []
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    origins = dict.fromkeys(FIELDS, "default")
    sources = (_from_file(config), _from_environment(environ), _from_overrides(overrides), _from_flags(flags))
    for entry in itertools.chain(*sources):
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
    sections: dict[str, Any] = {name: cls(**values[name]) for name, cls in SECTIONS.items()}
    settings = Settings(**sections)
    if origins["processing.workers"] == "default":
        settings = attrs.evolve(
            settings, processing=attrs.evolve(settings.processing, workers=_workers(settings))
        )
    return Loaded(settings, MappingProxyType(origins))


def _workers(settings: Settings) -> int:
    """Return the workers of one server, of those that this machine has cores for."""
    return max(1, settings.processing.workers // settings.server.processes)


def _checked(field: "attrs.Attribute[Any]", value: object) -> Any:
    """Convert and validate one value as the class would, so that an error can name its key and origin."""
    convert: Any = field.converter
    check: Any = field.validator
    converted = convert(value)
    check(None, field, converted)
    return converted


def _from_file(config: Path | None) -> Iterator[_Entry]:
    path = DEFAULT_FILE if config is None else config
    try:
        # utf-8-sig: editors on Windows write a byte order mark, which TOML refuses.
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        if config is None:
            return
        raise SettingsError(f"The settings file {path} does not exist.") from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error}") from error
    for section, table in document.items():
        if isinstance(table, dict) and (table or section in SECTIONS):
            for name, value in table.items():
                key = f"{section}.{name}"
                yield _Entry(key, key if key in FIELDS else None, value, str(path))
        else:
            yield _Entry(section, None, table, str(path))


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Entry]:
    for name, text in sorted(environ.items()):
        # Not every variable with the prefix is a setting: Kubernetes defines CREEMSON_PORT and
        # CREEMSON_SERVICE_HOST in each pod if there is a service of that name. But CREEMSON_LIMITS_QUEUE, with one
        # underscore too few, is a mistake.
        word = name.removeprefix(PREFIX).partition("_")[0].lower()
        if name.startswith(PREFIX) and ("__" in name or word in SECTIONS):
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


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Entry]:
    for key, value in flags.items():
        _, _, name = key.partition(".")
        given = str(value) if isinstance(value, Path) else value
        yield _Entry(key, key, given, f"--{name.replace('_', '-')}")


def _typed(key: str | None, text: str) -> object:
    """Parse text as a TOML value; anything else is a bare word."""
    if key is None:
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    value = document.pop("value")
    if document:  # the text has a line break and a second key
        return text
    # A folder can be called 2024, which is a number in TOML.
    return value if isinstance(value, str) or FIELDS[key].converter not in TEXT_KINDS else text


def _unknown(entry: _Entry) -> str:
    known = _ENVIRONMENT if entry.origin == entry.name else FIELDS
    similar = difflib.get_close_matches(entry.name, known, n=1, cutoff=0)[0]
    source = "" if entry.origin == entry.name else f" ({entry.origin})"
    return f'There is no setting "{entry.name}"{source}; the most similar is "{similar}".'


def _wrong(entry: _Entry, field: "attrs.Attribute[Any]") -> str:
    value = "***" if field.metadata["secret"] else toml_literal(entry.value)
    return f"{entry.key} = {value} ({entry.origin}): expected {field.metadata['expects']}."


def toml_literal(value: object) -> str:
    """Format a value as in TOML, for people to read."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_literal, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
