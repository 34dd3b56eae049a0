"""The console to which commands print."""

from rich.console import Console

__all__ = ["OutputConsole"]


class OutputConsole(Console):
    """Standard output. If its reader has gone, that is an error like any other; rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Raise the error on which rich calls this."""
        raise  # noqa: PLE0704 - called by an except clause
