"""The command ``creemson columns``."""

from pathlib import Path
from typing import Any

import click

from creemson.cli.shared.options import DEFAULT_URL, load_for_one_job, with_optional_url, with_reading
from creemson.cli.shared.streams import STANDARD
from creemson.server.first_worker import first_worker
from creemson.startup import without_collections

__all__ = ["columns"]


@click.command(short_help="Show the columns of a file.")
@click.argument("name", type=click.Path(allow_dash=True))
@with_reading
@with_optional_url
@click.pass_context
def columns(
    ctx: click.Context,
    name: str,
    options: dict[str, Any] | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Show the columns of NAME, how it is read, and what is repaired at its beginning.

    NAME is a local file, or - for standard input. With --url, or if there is no local file of that name, it is a
    file on the server.
    """
    on_server = ctx.get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE
    is_local = name == STANDARD or (Path(name).exists() and not on_server)
    settings = load_for_one_job(None, ()) if is_local else None
    # The worker starts while the modules that do the rest are imported.
    worker = None if settings is None else first_worker(settings)
    with without_collections():
        from creemson.cli.shared import described  # noqa: PLC0415

    if settings is not None:
        found = described.of_local_file(name, options, settings=settings, worker=worker)
    else:
        found = described.of_stored_file(
            name, options, url=url or DEFAULT_URL, token=token, wanted_server=url is not None
        )
    described.show(found, as_json=as_json)
