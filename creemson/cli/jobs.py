"""The commands for the jobs of a server: ``creemson jobs``, ``attach`` and ``cancel``."""

from datetime import datetime

import click
import orjson

from creemson.cli.shared.options import with_output, with_url
from creemson.cli.shared.results import destination, follow, print_result
from creemson.cli.shared.run import print_lines, run_with_client
from creemson.display.console import OutputConsole
from creemson.display.tables import show_table

__all__ = ["attach", "cancel", "jobs"]


@click.command()
@with_url
def jobs(url: str, token: str | None, as_json: bool) -> None:
    """List the jobs that the server knows, newest first."""
    found = run_with_client(url, token, lambda client: client.jobs())
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
    show_table(OutputConsole(), ["job", "state", "file", "created", "duration", "rows"], rows)


@click.command(short_help="Follow a job, and show or write its result.")
@click.argument("job")
@with_output
@with_url
def attach(
    job: str,
    output: str | None,
    output_format: str | None,
    normalized: bool,
    url: str,
    token: str | None,
    as_json: bool,
) -> None:
    """Follow JOB until it ends, and show its result or write it to --output.

    Interrupting this command does not stop the job.
    """
    to = destination(output, output_format, normalized=normalized, shows=as_json)
    result = run_with_client(url, token, lambda client: follow(client.attach(job), to))
    print_result(result, to, as_json=as_json, is_kept=True)


@click.command(short_help="Cancel a job.")
@click.argument("job")
@with_url
def cancel(job: str, url: str, token: str | None, as_json: bool) -> None:
    """Cancel JOB for all clients that wait for it."""
    run_with_client(url, token, lambda client: client.cancel(job))
    if as_json:
        click.echo(orjson.dumps({"job": job}))
