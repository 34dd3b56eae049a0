"""``creemson jobs``, ``attach`` and ``cancel``."""

from datetime import datetime
from pathlib import Path

import click
import orjson
from rich.console import Console

from creemson.cli.options import ask, at_server, print_lines
from creemson.cli.process import check_output, follow, show
from creemson.display import show_table

__all__ = ["attach", "cancel", "jobs"]


@click.command()
@at_server
def jobs(url: str, token: str | None, as_json: bool) -> None:
    """List the jobs that the server knows, the newest first."""
    found = ask(url, token, lambda client: client.jobs())
    if as_json:
        print_lines(found)
        return
    rows = [
        (
            info.job,
            info.state,
            info.filename,
            datetime.fromtimestamp(info.created).strftime("%Y-%m-%d %H:%M:%S"),
            "" if info.finished is None else f"{info.finished - info.created:.1f} s",
            "" if info.rows is None else f"{info.rows:,}",
        )
        for info in found
    ]
    show_table(Console(), ["job", "state", "file", "created", "took", "rows"], rows)


@click.command()
@click.argument("job")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write the result to."
)
@at_server
def attach(job: str, output: Path | None, url: str, token: str | None, as_json: bool) -> None:
    """Follow JOB to its end, and show its result or write it to --output; interrupting does not stop it."""
    check_output(output)
    show(ask(url, token, lambda client: follow(client.attach(job), output)), output, as_json=as_json)


@click.command()
@click.argument("job")
@at_server
def cancel(job: str, url: str, token: str | None, as_json: bool) -> None:
    """Stop JOB for all who wait for it."""
    ask(url, token, lambda client: client.cancel(job))
    if as_json:
        click.echo(orjson.dumps({"job": job}))
