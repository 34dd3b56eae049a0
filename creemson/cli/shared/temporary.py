"""Local files for a command, and the temporary server that reads them."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from creemson.cli.shared.streams import STANDARD, standard_input
from creemson.client.local.source import Content
from creemson.executors.spawn import Spawned
from creemson.server.embedded import embedded
from creemson.settings.sections import Settings

__all__ = ["Input", "input_of", "server_at"]


@attrs.frozen(kw_only=True)
class Input:
    """A file that is given to a command.

    Attributes:
        shown: its name on the command line.
        name: its name on the server.
        content: its path, or the open file.
        is_temporary: whether to remove it from the server afterwards.
    """

    shown: str
    name: str
    content: Path | Content
    is_temporary: bool = False


def input_of(name: str, input_format: str | None = None, *, is_shared: bool = False) -> Input:
    """Return the input for an argument of a command.

    Args:
        name: a path, or ``-`` for standard input.
        input_format: the format of standard input; None for csv.
        is_shared: whether other callers may use the server: then standard input needs a name of its own.
    """
    if name == STANDARD:
        own = f"-{secrets.token_hex(6)}" if is_shared else ""
        stored = f"stdin{own}.{input_format or 'csv'}"
        return Input(shown=name, name=stored, content=standard_input(), is_temporary=True)
    path = Path(name)
    # A pipe, such as <(zcat a.csv.gz) of a shell, is read like standard input.
    content: Path | Content = path if path.is_file() else path.open("rb", buffering=0)
    return Input(shown=name, name=path.name, content=content)


@asynccontextmanager
async def server_at(url: str | None, settings: Settings, worker: Spawned | None = None) -> AsyncIterator[str]:
    """Provide the address of the server to use; without a URL, start a temporary server.

    Args:
        url: the address of a server, or None.
        settings: of the temporary server.
        worker: its first worker, if it has been started.
    """
    if url is not None:
        yield url
        return
    async with embedded(settings, worker=worker) as address:
        yield address
