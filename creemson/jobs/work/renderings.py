"""Renderings: outputs in another format, made when they are first asked for.

A rendering takes as long as a job. So it takes a slot, and its turn, in the queue of jobs, by a
:class:`~creemson.jobs.queue.slots.Lease`. Several requests may wait for the same rendering; it stops when the last one
leaves.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, ProcessingError, disk_error, internal_error, shutting_down
from creemson.executors import commands
from creemson.executors.executor import Executor, TransientFault
from creemson.jobs.journal import InThread
from creemson.jobs.queue.slots import Lease
from creemson.jobs.work.publishing import output_target
from creemson.storage.store import Store

__all__ = ["Renderings"]

_Target: TypeAlias = tuple[str, str]


@attrs.define(eq=False)
class _Rendering:
    """One rendering.

    Attributes:
        lease: its place in the queue.
        granted: set when it has a slot.
        scope: around the work.
        waiting: number of requests that wait for it.
        ended: set at the end.
        error: why it failed.
    """

    lease: Lease
    granted: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    waiting: int = 0
    ended: trio.Event = attrs.field(factory=trio.Event)
    error: CreemsonError | None = None


class Renderings:
    """The renderings in progress.

    Args:
        workers: carries them out.
        timeout: maximum seconds for one, from its start.
        ask: calls a function of a store with arguments; in a thread if it may wait for a database.
        in_thread: runs what blocks in a thread.
        request: asks the queue for a slot; see :meth:`creemson.jobs.queue.queue.JobQueue.request`.
        release: gives it back.
        logger: Logger.
    """

    def __init__(
        self,
        *,
        workers: Executor,
        timeout: float,
        ask: InThread,
        in_thread: InThread,
        request: Callable[[Lease], None],
        release: Callable[[Lease], None],
        logger: FilteringBoundLogger,
    ) -> None:
        self._workers = workers
        self._timeout = timeout
        self._ask = ask
        self._in_thread = in_thread
        self._request = request
        self._release = release
        self._log = logger
        # By caller and name: those that further requests may join.
        self._by_target: dict[_Target, _Rendering] = {}
        self._by_lease: dict[Lease, _Rendering] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out renderings until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def render(self, store: Store, stored: Path, filename: str, caller: str, party: str) -> None:
        """Make a file, or wait for it if it is being made. Cancelling leaves that to the others who wait.

        Args:
            store: the store of the caller.
            stored: path of the stored output.
            filename: name of the rendering; its ending is the format.
            caller: whom the output belongs to.
            party: who takes turns.

        Raises:
            CreemsonError: it could not be made; those who wait for the same rendering get the same error.
        """
        target = caller, filename
        rendering = self._by_target.get(target)
        if rendering is None:
            rendering = self._enqueue(Lease(caller, party))
            self._by_target[target] = rendering
            assert self._nursery is not None
            self._nursery.start_soon(self._carry_out, rendering, store, stored, filename)
        rendering.waiting += 1
        try:
            await rendering.ended.wait()
        finally:
            rendering.waiting -= 1
            if not rendering.waiting:
                rendering.scope.cancel()
                # It may need a moment to stop. A request that comes now must not wait for its end, but start another.
                self._forget(target, rendering)
        if rendering.error is not None:
            raise rendering.error

    def granted(self, lease: Lease) -> None:
        """Begin: the lease has a slot."""
        self._by_lease[lease].granted.set()

    def revoked(self, lease: Lease) -> None:
        """Stop: the server is shutting down."""
        rendering = self._by_lease[lease]
        rendering.error = shutting_down()
        rendering.scope.cancel()

    def _enqueue(self, lease: Lease) -> _Rendering:
        rendering = self._by_lease[lease] = _Rendering(lease)
        try:
            self._request(lease)
        except CreemsonError:
            del self._by_lease[lease]
            raise
        return rendering

    async def _carry_out(self, rendering: _Rendering, store: Store, stored: Path, filename: str) -> None:
        target = rendering.lease.caller, filename
        try:
            with rendering.scope:
                await rendering.granted.wait()
                with trio.move_on_after(self._timeout) as limit:
                    async with output_target(store.outputs, filename, self._in_thread) as path:
                        command = commands.render(
                            source=await self._ask(store.source, stored),
                            target=path,
                            output_format=filename.partition(".")[2],
                            room=await self._ask(lambda: store.quota.left),
                        )
                        await self._workers.call(command)
                if limit.cancelled_caught:
                    rendering.error = ProcessingError(
                        "job_timeout", f"This took longer than {self._timeout:g} s. Ask for another format."
                    )
        except TransientFault as fault:
            rendering.error = fault.error
        except CreemsonError as fault:
            rendering.error = fault
        except OSError as fault:  # of the object store, when it was published
            self._log.warning("rendering not published", error=str(fault))
            rendering.error = disk_error(fault)
        except Exception:
            # A bug in one rendering must not affect the others.
            self._log.exception("rendering failed unexpectedly", caller=rendering.lease.caller)
            rendering.error = internal_error()
        finally:
            self._forget(target, rendering)
            del self._by_lease[rendering.lease]
            self._release(rendering.lease)
            rendering.ended.set()

    def _forget(self, target: _Target, rendering: _Rendering) -> None:
        if self._by_target.get(target) is rendering:
            del self._by_target[target]
