"""Renders the comments of creemson.js and the types of creemson.d.ts as Markdown."""

import re
from collections.abc import Iterator

__all__ = ["javascript_page"]

MEMBER = re.compile(
    r"^  /\*\*((?:(?!\*/).)*)\*/\n  (?:async |get )?(\w+)\((?=[^;]*?\) \{)", re.DOTALL | re.MULTILINE
)
FUNCTION = re.compile(r"^/\*\*((?:(?!\*/).)*)\*/\nexport function (\w+)", re.DOTALL | re.MULTILINE)
TYPE = re.compile(
    r"^(?:/\*\*((?:(?!\*/).)*)\*/\n)?(export (?:interface|type) (\w+).*?(?:^\}|;))$", re.DOTALL | re.MULTILINE
)
CLASS = re.compile(r"^export class {} .*?^\}}", re.DOTALL | re.MULTILINE)


def javascript_page(module: str, types: str) -> str:
    """Return the page: functions, the members of the client, the error, and the types.

    Args:
        module: the text of creemson.js.
        types: the text of creemson.d.ts.
    """
    client = _class(types, "Client")
    lines: list[str] = []
    for comment, name in FUNCTION.findall(module):
        lines += ["", f"## `{name}`", "", *_code(_signatures(types, rf"export function {name}"))]
        lines += _text(comment)
    lines += [
        "",
        "## `Client`",
        "",
        "A client of a server; stays connected until it is closed. Events: `state`, ",
    ]
    lines += ["with the new state as `detail`, and `error`, with an error that belongs to no request."]
    for comment, name in MEMBER.findall(_class(module, "Client")):
        lines += ["", f"### `client.{name}`", "", *_code(_signatures(client, rf"  (?:readonly )?{name}[(:]"))]
        lines += _text(comment)
    lines += ["", "## `CreemsonError`", "", *_code(_class(types, "CreemsonError"))]
    lines += ["", "## Types"]
    for comment, code, name in TYPE.findall(types):
        lines += ["", f"### `{name}`", "", *_text(comment), *_code(code)]
    return "\n".join(lines) + "\n"


def _class(text: str, name: str) -> str:
    found = re.search(rf"^export class {name} .*?^\}}", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"There is no class {name}.")
    return found[0]


def _signatures(types: str, beginning: str) -> str:
    """Return the declarations that begin so, each up to the semicolon that ends it."""
    found = re.findall(rf"^{beginning}.*?;$", types, re.DOTALL | re.MULTILINE)
    if not found:
        raise ValueError(f"The types have no {beginning!r}.")
    return "\n".join(re.sub(r"^  ", "", text, flags=re.MULTILINE) for text in found)


def _code(code: str) -> Iterator[str]:
    yield from ("```ts", code.removeprefix("export "), "```", "")


def _text(comment: str) -> Iterator[str]:
    """Return the text of a comment; its tags become a list."""
    text = re.sub(r"^[ ]*\*[ ]?", "", comment.strip(), flags=re.MULTILINE)
    text = re.sub(r"\{@link (\w+)\}", r"`\1`", text)
    description, *tags = re.split(r"^\s*@", text, flags=re.MULTILINE)
    yield from (description.strip(), "")
    for tag in tags:
        kind, _, rest = tag.partition(" ")
        rest = " ".join(_without_type(rest).split())
        if kind == "param":
            name, _, meaning = rest.partition(" ")
            yield f"- `{name.strip('[]')}`: {meaning or 'see the signature'}"
        elif rest:
            yield f"- *{kind}*: {rest}"
    yield ""


def _without_type(text: str) -> str:
    """Return the text after the type in braces with which it begins; the signature has the type."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[at + 1 :] if sign == "}" else text
    return ""
