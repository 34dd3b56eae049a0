"""The interface of stored outputs: written by workers, published and removed by the jobs."""

from pathlib import Path
from typing import Protocol

from creemson.catalog.shared.claims import Claim

__all__ = ["Outputs"]


class Outputs(Protocol):
    """The outputs of one caller, with their renderings in other formats, texts and files of rejects."""

    @property
    def is_remote(self) -> bool:
        """Whether :meth:`publish` and :meth:`discard` wait for a network, so they need a thread."""

    def begin(self, name: str) -> str:
        """Return what a worker writes an output of this name to, or a rendering of an output. Does not wait.

        End it with :meth:`publish` or :meth:`discard`.
        """

    def publish(self, name: str, target: str, claim: Claim | None = None) -> None:
        """Count and publish an output, or a rendering of one, that a worker has written, with what belongs to it.

        Args:
            name: name of the output.
            target: what :meth:`begin` returned.
            claim: whose job it is an output of, if several servers share the jobs.

        Raises:
            ProcessingError: ``storage_full``: it does not fit the quota, and was removed.
            LostClaimError: the job belongs to another server by now, or has ended; nothing was published. The caller
                must call :meth:`discard`.
            OSError: the object store failed.
        """

    def discard(self, target: str) -> None:
        """Remove what a worker may have written to ``target`` without an end; never fails."""

    def expect(self, name: str, size: int, texts_size: int | None = None) -> None:
        """Note the size of a complete output: from now on, a file of another size is not served in its place.

        Does not wait.

        Args:
            name: name of the output.
            size: its size in bytes.
            texts_size: that of its texts; None if it has none.
        """

    def has(self, name: str) -> bool:
        """Return whether there is an output of this name that can be served, with its texts. Does not wait."""

    def is_hidden(self, output: str) -> bool:
        """Return whether an upload has the name of an output, or of another file of it, and is found in its place.

        Does not wait.
        """

    def find_stored(self, name: str) -> Path | None:
        """Return the stored output of which ``name`` is a rendering in another format, if it exists. Does not wait.

        Raises:
            InvalidFormat: ``invalid_filename``.
        """

    def remove(self, name: str) -> None:
        """Remove an output with its renderings, texts and file of rejects; no effect if it does not exist.

        Raises:
            OSError: the disk failed.
        """
