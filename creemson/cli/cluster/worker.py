"""The command ``creemson worker``."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from creemson.cli.cluster.folder import worker_folder
from creemson.cli.shared.options import load_settings, with_settings
from creemson.cli.shared.run import describe_os_error, fail
from creemson.executors.machine import worker_memory
from creemson.executors.spawn import ScratchFolder
from creemson.server.engines import max_line

__all__ = ["worker"]


@click.command(short_help="Run workers for servers on other machines.")
@click.option("--scheduler", help="Address of the Dask scheduler, such as tls://10.0.0.1:8786.")
@click.option("--workers", type=int, help="Number of workers [usable cores].")
@click.option("--host", help="Address to listen on [the one that reaches the scheduler].")
@click.option(
    "--tls",
    type=click.Path(path_type=Path),
    help="Folder with ca.pem, cert.pem and key.pem [processing.dask_ca, dask_cert, dask_key].",
)
@click.option(
    "--tls-create",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Only make these three files, for a first try.",
)
@with_settings
def worker(
    scheduler: str | None,
    workers: int | None,
    host: str | None,
    tls: Path | None,
    tls_create: Path | None,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Run workers that take jobs from the servers of a Dask scheduler, until Ctrl-C or SIGTERM.

    They must see the data folder of the server under the same path, unless the server uses an object store.
    """
    if find_spec("distributed") is None:
        fail('This command needs a package that is not installed: pip install "creemson[dask]".')
    # Imported here: distributed takes a second.
    from creemson.executors.dask.tls import TlsFiles, create_certificates, refusal  # noqa: PLC0415

    if tls_create is not None:
        try:
            files = create_certificates(tls_create)
        except OSError as error:
            fail(describe_os_error(error))
        click.echo(f"{files.ca}, {files.cert} and {files.key}: copy them to all machines of the cluster.")
        return
    settings = load_settings(
        config, overrides, processing__dask_scheduler=scheduler, processing__workers=workers
    ).settings
    processing = settings.processing
    if processing.dask_scheduler is None:
        raise click.UsageError("Give the address of the Dask scheduler with --scheduler.")
    given = (
        TlsFiles.of(processing.dask_ca, processing.dask_cert, processing.dask_key)
        if tls is None
        else TlsFiles.in_folder(tls)
    )
    refused = refusal(processing.dask_scheduler, given, how="--tls DIR")
    if refused is not None:
        raise click.UsageError(refused)
    from creemson.executors.dask.host import HostSettings  # noqa: PLC0415
    from creemson.executors.dask.worker import WorkerSettings, run_workers  # noqa: PLC0415

    with worker_folder() as folder:
        scratch = ScratchFolder(folder / "scratch", settings.storage.scratch_bytes)
        scratch.folder.mkdir()
        run_workers(
            WorkerSettings(
                scheduler=processing.dask_scheduler,
                files=given if processing.dask_scheduler.startswith("tls:") else None,
                count=processing.workers,
                process=HostSettings(
                    memory_bytes=worker_memory(settings),
                    nice=processing.nice,
                    max_line=max_line(settings),
                    scratch=scratch,
                ),
                host=host,
                folder=str(folder),
            ),
            on_ready=lambda: click.echo(f"{processing.workers} workers are connected (press Ctrl-C to stop)"),
        )
