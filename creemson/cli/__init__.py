"""The command line: ``creemson`` and ``python -m creemson``.

Exit status: 0 done, 1 the work failed (its message on standard error), 2 bad usage.
"""

import click

from creemson import __version__
from creemson.cli.config import config
from creemson.cli.doctor import doctor
from creemson.cli.files import columns, delete, download, files, upload
from creemson.cli.jobs import attach, cancel, jobs
from creemson.cli.process import process
from creemson.cli.serve import serve
from creemson.cli.token import token
from creemson.cli.top import top

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="creemson")
def main() -> None:
    """Creemson: a real-time server for tabular files."""


for command in (
    serve,
    process,
    upload,
    download,
    files,
    columns,
    delete,
    jobs,
    attach,
    cancel,
    top,
    token,
    doctor,
    config,
):
    main.add_command(command)
