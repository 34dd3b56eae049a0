"""Renders the AsyncAPI document of the protocol as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["messages_page"]

Schema = Mapping[str, Any]
TITLES = {"client": "From the client", "server": "From the server"}
CONSTRAINTS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "pattern `{}`",
}


def messages_page(document: Schema) -> str:
    """Return the page: a section for each direction, and in it one for each message with a table of its fields.

    Args:
        document: of :func:`creemson.wire.asyncapi.describe`.
    """
    lines: list[str] = []
    for side, title in TITLES.items():
        lines += ["", f"## {title}"]
        for name, message in document["components"]["messages"].items():
            if name.startswith(f"{side}."):
                lines += _section(side, message)
    return "\n".join(lines) + "\n"


def _section(side: str, message: Schema) -> Iterator[str]:
    name = "legacy request" if message["name"] == "classic" else message["name"]
    # The same type exists in both directions, for example `files`.
    yield from ("", f"### `{name}` ({side})", "", _summary(message["summary"]), "")
    yield from ("| field | type | |", "|---|---|---|")
    for field, schema, required in _fields(message["payload"]):
        yield f"| `{field}` | {_type(schema)} | {'required' if required else ''} |"


def _summary(text: str) -> str:
    """Return a docstring's first line without the roles of reStructuredText."""
    return text.replace(":class:", "").replace(":data:", "").replace("``", "`")


def _fields(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Return the fields of an object, and those of the objects in it with dots between the names."""
    for name, inner in schema["properties"].items():
        required = name in schema["required"]
        yield prefix + name, inner, required
        nested, suffix = _object_in(inner)
        if nested is not None:
            yield from _fields(nested, f"{prefix}{name}{suffix}.")


def _object_in(schema: Schema) -> tuple[Schema | None, str]:
    """Return the object that a field holds, possibly as an item of a list or beside null."""
    if "properties" in schema:
        return schema, ""
    for choice in schema.get("anyOf", ()):
        found, suffix = _object_in(choice)
        if found is not None:
            return found, suffix
    items = schema.get("items")
    if isinstance(items, Mapping):
        found, suffix = _object_in(items)
        return found, f"[]{suffix}"
    return None, ""


def _type(schema: Schema) -> str:
    limits = [text.format(_cell(schema[key])) for key, text in CONSTRAINTS.items() if key in schema]
    return ", ".join([_kind(schema), *limits])


def _kind(schema: Schema) -> str:
    if "const" in schema:
        return f"`{_cell(schema['const'])}`"
    if "enum" in schema:
        return " ".join(f"`{_cell(value)}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    match schema.get("type"):
        case None:
            return "any value"
        case "array" if isinstance(schema["items"], list):
            return f"[{', '.join(_type(item) for item in schema['items'])}]"
        case "array":
            return f"list of {_type(schema['items'])}"
        case "object" if isinstance(schema.get("additionalProperties"), Mapping):
            return f"object with values: {_type(schema['additionalProperties'])}"
        case kind:
            return str(kind)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")
