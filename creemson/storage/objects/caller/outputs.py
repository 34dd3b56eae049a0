"""One caller's outputs in the object store; implements :class:`creemson.storage.outputs.Outputs`.

Bytes are written under a key of the attempt's own, and become a file by a row. Only the objects of an attempt are
listed, when it ends.
"""

import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from creemson.catalog.objects import Guard, ObjectRow, Objects
from creemson.catalog.shared.claims import Claim
from creemson.errors import ProcessingError
from creemson.model.filenames import check_name
from creemson.model.results import OUTPUT_FORMATS
from creemson.storage.names import output_names, rejects_name, rendering_of, texts_name
from creemson.storage.objects.address import Address
from creemson.storage.objects.bookkeeping import Garbage, Ledger
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.caller.kept import Kept
from creemson.storage.objects.caller.rows import counted_key

__all__ = ["ObjectOutputs"]


class ObjectOutputs:
    """The outputs of one caller; see :class:`creemson.storage.outputs.Outputs` for the methods.

    Args:
        bucket: the object store.
        rows: the files that there are.
        caller: name of the caller.
        garbage: knows what is being written, and removes objects.
        ledger: counts the bytes of outputs.
        clock: returns seconds since 1970.
        kept: keeps what is held of outputs that are replaced.

    Attributes:
        doomed: keys of outputs that were removed, and whose rows the next sweep removes; others only read it.
    """

    is_remote = True

    def __init__(
        self,
        bucket: ObjectBucket,
        rows: Objects,
        *,
        caller: str,
        garbage: Garbage,
        ledger: Ledger,
        clock: Callable[[], float],
        kept: Kept,
    ) -> None:
        self._bucket = bucket
        self._rows = rows
        self._caller = caller
        self._garbage = garbage
        self._ledger = ledger
        self._clock = clock
        self._kept = kept
        self._lock = threading.Lock()  # for changes of the next field
        self.doomed: set[str] = set()

    def begin(self, name: str) -> str:
        """Return the address to which a worker writes an output, under a key of the attempt's own."""
        folder = f"outputs/{secrets.token_hex(16)}"
        self._garbage.begin_writing(folder)
        key = f"{folder}/output.{name.partition('.')[2]}"
        return str(Address(self._bucket.name, self._bucket.prefix + key, name))

    def publish(self, name: str, target: str, claim: Claim | None = None) -> None:
        """Count and publish an output, or a rendering of one, with what belongs to it."""
        key = Address.parse(target).path.removeprefix(self._bucket.prefix)
        folder = key.rpartition("/")[0]
        found = dict(self._bucket.sizes(folder))
        now = self._clock()
        names = {key: name, texts_name(key): texts_name(name), rejects_name(key): rejects_name(name)}
        rows = [
            ObjectRow(
                key=one, caller=self._caller, kind="output", name=its_name, version=f"object:{one}", size=found[one],
                piece=0, modified=now, used=now,
            )
            for one, its_name in names.items() if one in found
        ]  # fmt: skip
        if key not in found:
            raise ProcessingError(
                "worker_died", f"The output {name!r} is not in the object store. Try again."
            )
        guard = Guard(claim=claim, store=self._garbage.store_of(folder), quota=self._ledger.limit_of_rows)
        replaced = self._rows.record(rows, guard)
        self._garbage.end_writing(folder, discard=False)
        self._garbage.remove_objects(
            folder, found.keys() - names.keys()
        )  # of those who did a part of the work
        self._kept.lost_name(replaced)
        try:
            self._ledger.admit(*map(counted_key, rows))
        except ProcessingError:
            self._kept.forget(rows)
            raise

    def discard(self, target: str) -> None:
        """Let the next sweep remove what a worker may have written."""
        key = Address.parse(target).path.removeprefix(self._bucket.prefix)
        self._garbage.end_writing(key.rpartition("/")[0], discard=True)

    def expect(self, name: str, size: int, texts_size: int | None = None) -> None:
        """Do nothing: the row of an output has the size that its object had."""

    def has(self, name: str) -> bool:
        """Return whether there is an output of this name."""
        return bool(self.named(name))

    def is_hidden(self, output: str) -> bool:
        """Return whether an upload has the name of an output, or of another file of it, and is found in its place."""
        return self._rows.has_upload(self._caller, output_names(output, OUTPUT_FORMATS))

    def find_stored(self, name: str) -> Path | None:
        """Return the stored output of which ``name`` is a rendering in another format, if it exists."""
        found = rendering_of(check_name(name), OUTPUT_FORMATS)
        rows = [] if found is None else self.named(found[0])
        return Path(rows[0].key) if rows else None

    def remove(self, name: str) -> None:
        """Remove an output with its renderings, texts and file of rejects; no effect if it does not exist.

        They are not found any more; rows and objects go with the next sweep, because nobody may wait here.
        """
        rows = self.named(*output_names(name, OUTPUT_FORMATS))
        with self._lock:
            self.doomed.update(row.key for row in rows)
        self._garbage.soon(self.remove_doomed)

    def remove_doomed(self) -> None:
        """Let removed outputs lose their names."""
        with self._lock:
            doomed = list(self.doomed)
        self._rows.keep(doomed)
        with self._lock:
            self.doomed.difference_update(doomed)

    def named(self, *names: str) -> list[ObjectRow]:
        """Return the rows of those outputs that there are."""
        rows = (self._rows.named(self._caller, name, "output") for name in names)
        return [row for row in rows if row is not None and row.key not in self.doomed]
