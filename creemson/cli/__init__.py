"""The command line: ``creemson`` and ``python -m creemson``.

Exit status: 0 success, 1 the operation failed (the message is on standard error), 2 wrong usage.

The commands ``serve``, ``process``, ``top``, ``token``, ``doctor`` and ``config`` have one module each; ``cluster`` has
``worker``, ``files`` the commands for the files of a server, ``jobs`` those for its jobs. They share ``options``
(options of several commands), ``arguments`` (parses the arguments that describe a query), ``run`` (runs the work of a
command) and ``results`` (shows the result of a job).
"""

import importlib
from typing import cast

import click

from creemson._version import __version__

__all__ = ["main"]

COMMANDS = {
    "serve": "serve",
    "process": "process",
    "upload": "files",
    "download": "files",
    "files": "files",
    "columns": "files",
    "delete": "files",
    "jobs": "jobs",
    "attach": "jobs",
    "cancel": "jobs",
    "top": "top",
    "token": "token",
    "worker": "cluster.worker",
    "doctor": "doctor",
    "config": "config",
}
"""The module of each command. Only that of the given command is imported: all of them take twice as long."""


class Commands(click.Group):
    """A group that imports a command when it is needed (click's manual: "Lazily loading subcommands")."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the interface of click
        """Return the names of all commands, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"creemson.cli.{COMMANDS[cmd_name]}")
        return cast(click.Command, getattr(module, cmd_name))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="creemson")
def main() -> None:
    """Creemson: a real-time server for tabular files."""
