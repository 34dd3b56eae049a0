"""The versions that unfinished jobs of any server need: those in the rows of these jobs."""

from collections.abc import Callable, Sequence

from creemson.catalog.objects import ObjectRow
from creemson.catalog.shared.objects import SharedObjects

__all__ = ["SharedHolds"]


class SharedHolds:
    """Implements :class:`creemson.storage.objects.bookkeeping.Holds`.

    Nothing is held but by the row of a job, which is recorded in one transaction with a lock on a row of the version.

    Args:
        rows: the files that there are.
        caller: name of the caller.
    """

    def __init__(self, rows: SharedObjects, caller: str) -> None:
        self._rows = rows
        self._caller = caller

    def hold(self, version: str, is_there: Callable[[], bool]) -> bool:
        """Return whether the bytes can be found now."""
        return is_there() or self.kept(version) is not None

    def release(self, version: str) -> bool:
        """Return whether there are kept rows."""
        return self.kept(version) is not None

    def is_held(self, version: str) -> bool:
        """Return whether an unfinished job needs a version."""
        return self._rows.is_needed(self._caller, version)

    def kept(self, version: str) -> ObjectRow | None:
        """Return a row with the kept bytes of a version."""
        return next(iter(self._rows.kept(self._caller, version)), None)

    def remove_unheld(self, version: str) -> Sequence[ObjectRow]:
        """Delete the kept rows of a version that nobody needs, and return them."""
        return self._rows.forget_kept(self._caller, version)
