"""Shows a result in a notebook: its first rows as HTML."""

import html
from collections.abc import Sequence
from typing import Any

import orjson

from creemson.model.results import OutputData

__all__ = ["html_table"]

MAX_COLUMNS = 30
MAX_CHARACTERS = 100
"""Maximum characters of a cell."""


def html_table(output: OutputData, rows: Sequence[Sequence[Any]]) -> str:
    """Return the first rows of an output as HTML.

    Args:
        output: the figures of the output.
        rows: its first rows.
    """
    shown = len(output.columns[:MAX_COLUMNS])
    left = len(output.columns) - shown
    titles = "".join(
        f"<th>{_text(name)}<br><small>{html.escape(dtype)}</small></th>"
        for name, dtype in zip(output.columns[:shown], output.dtypes, strict=False)
    )
    more = "<td>…</td>" if left else ""
    body = "".join(f"<tr>{''.join(map(_cell_html, row[:shown]))}{more}</tr>" for row in rows)
    size = f"{output.rows:,} rows × {len(output.columns):,} columns"
    if output.rows > len(rows):
        size += f"; the first {len(rows)} are shown"
    if left:
        size += f", without {left:,} columns"
    head = f"<tr>{titles}{'<th>…</th>' if left else ''}</tr>"
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table><p><small>{size}</small></p>"


def _cell_html(value: Any) -> str:
    if value is None:
        return '<td style="opacity: 0.5">null</td>'
    align = ' style="text-align: right"' if isinstance(value, int | float) else ""
    return f"<td{align}>{_text(value if isinstance(value, str) else orjson.dumps(value).decode())}</td>"


def _text(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS - 1]}…"
    return html.escape(text)
