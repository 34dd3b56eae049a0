"""Command lines in the documentation, parsed as the programs parse them."""

import subprocess
import sys

import click

from creemson import cli


def command_of(name):
    """A command of ours; it is imported when it is used."""
    return cli.main.get_command(click.Context(cli.main), name)


def parse(words):
    """Check the command line of a program; return the values of its options if the program is ours.

    Raises:
        click.UsageError: it is not accepted.
    """
    program, name, *rest = words
    if program == "creemson":
        return command_of(name).make_context(name, rest).params
    assert (program, name) == ("dask", "scheduler"), f"nothing tests {words}"
    # In a process of its own, because the library sets up logging. An option that it does not know comes before all else.
    done = subprocess.run(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *rest, "--version"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise click.UsageError(done.stderr)
    return {}
