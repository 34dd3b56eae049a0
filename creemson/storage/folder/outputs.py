"""One caller's outputs in a data folder; implements :class:`creemson.storage.outputs.Outputs`."""

import os
from pathlib import Path

from creemson.catalog.shared.claims import Claim
from creemson.errors import ProcessingError
from creemson.model.results import OUTPUT_FORMATS
from creemson.storage.folder.files import Files
from creemson.storage.folder.kept import Kept
from creemson.storage.names import is_stored, output_names, rejects_name, texts_name
from creemson.storage.quota import Ledger

__all__ = ["FolderOutputs"]


class FolderOutputs:
    """The outputs of one caller; see :class:`creemson.storage.outputs.Outputs` for the methods.

    Args:
        files: the caller's folders.
        ledger: counts the bytes of outputs.
        kept: keeps what is held of outputs that are removed.

    Attributes:
        sizes: of outputs whose jobs are done and of their texts, by name; others only read it.
    """

    is_remote = False

    def __init__(self, files: Files, ledger: Ledger, kept: Kept) -> None:
        self._files = files
        self._ledger = ledger
        self._kept = kept
        self._folder = f"{files.outputs}/"  # beginning of the paths of outputs
        self.sizes: dict[str, int] = {}

    def begin(self, name: str) -> str:
        """Return the path to which a worker writes an output of this name, or a rendering of an output."""
        return self._folder + name

    def discard(self, target: str) -> None:
        """Do nothing: a worker writes an output as a whole or not at all."""

    def expect(self, name: str, size: int, texts_size: int | None = None) -> None:
        """Note the size of a complete output: from now on, a file of another size is not served in its place.

        The worker syncs an output before it has its name, so this finds what somebody else has done to it: a repair of
        the file system, a backup that was incomplete.

        Args:
            name: name of the output.
            size: its size in bytes.
            texts_size: that of its texts; None if it has none.
        """
        self.sizes[name] = size
        if texts_size is not None:
            self.sizes[texts_name(name)] = texts_size

    def has(self, name: str) -> bool:
        """Return whether there is an output of this name that can be served, with its texts."""
        size = self._size(name)
        texts = texts_name(name)
        if size is None:
            self._forget_size(name)
            return False
        return self.sizes.get(name, size) == size and (
            texts not in self.sizes or self._size(texts) == self.sizes[texts]
        )

    def _size(self, name: str) -> int | None:
        try:
            return os.stat(self._folder + name).st_size  # noqa: PTH116 - 2 µs instead of 9 per cached answer
        except OSError:
            return None

    def _forget_size(self, name: str) -> None:
        self.sizes.pop(name, None)
        self.sizes.pop(texts_name(name), None)

    def is_hidden(self, output: str) -> bool:
        """Return whether an upload has the name of an output, or of another file of it, and is found in its place."""
        return self._files.has_upload(output_names(output, OUTPUT_FORMATS))

    def find_stored(self, name: str) -> Path | None:
        """Return the stored output of which ``name`` is a rendering in another format, if it exists."""
        stored = self._files.find_output_of(name, OUTPUT_FORMATS)
        return stored if stored is not None and self.has(stored.name) else None

    def remove(self, name: str) -> None:
        """Remove an output with its renderings, texts and file of rejects; no effect if it does not exist."""
        self._forget_size(name)
        paths = self._files.output_files(name, OUTPUT_FORMATS)
        with self._kept.replacing(*paths):
            for path in paths:
                path.unlink(missing_ok=True)
        self._ledger.settle(*map(self._files.key, paths))

    def publish(self, name: str, target: str, claim: Claim | None = None) -> None:
        """Count an output, or a rendering of one, that a worker has written, with its texts and file of rejects."""
        del target, claim  # the worker has given it its name; a folder has one server
        names = (name, texts_name(name), rejects_name(name)) if is_stored(name, OUTPUT_FORMATS) else (name,)
        paths = [self._files.outputs / one for one in names]
        try:
            self._ledger.admit(*map(self._files.key, paths))
        except ProcessingError:
            for path in paths:
                path.unlink(missing_ok=True)
            self._ledger.settle(*map(self._files.key, paths))
            raise
