"""Periodic work of a server: removes expired files, returns memory, reads tokens, measures the event loop."""

from functools import partial

import trio
from structlog.typing import FilteringBoundLogger

from creemson.metrics import Metrics
from creemson.server import malloc
from creemson.server.auth.token_table import TokenTable
from creemson.server.reach import Reach
from creemson.settings.sections import Settings
from creemson.storage.clock import AgeClock
from creemson.storage.stores import Stores

__all__ = ["keep_leases", "keep_tokens", "measure_lag", "sweep_expired"]

SWEEP_INTERVAL = 60.0
"""Seconds between two sweeps."""
RENEW_INTERVAL = 5.0
"""Seconds between two renewals of what the stores use; see :data:`creemson.catalog.shared.leases.LEASE`."""
TOKENS_INTERVAL = 0.4
"""Seconds between two looks at whether the tokens in the catalog have changed. Connections are checked each 0.5 s, so a
revocation holds on all servers within a second."""
LAG_INTERVAL = 0.25
"""Seconds between two measurements of the event loop's delay."""


async def sweep_expired(
    stores: Stores, clock: AgeClock, settings: Settings, log: FilteringBoundLogger
) -> None:
    """Remove expired files and the leftovers of a crash, at start and then every minute.

    Args:
        stores: the stores of all callers.
        clock: the clock by which files age.
        settings: effective settings.
        log: Logger.
    """
    sweep = partial(
        stores.sweep,
        keep_uploads=settings.storage.keep_uploads,
        keep_outputs=settings.storage.keep_outputs,
        keep_parts=settings.timeouts.upload_idle,
    )
    while True:
        try:
            removed = await trio.to_thread.run_sync(partial(sweep, now=clock()))
        except OSError as error:
            log.error("the data folder could not be swept", error=str(error))  # noqa: TRY400 - the disk failed; no bug
        else:
            if removed:
                log.info("swept", files=removed)
        await trio.to_thread.run_sync(malloc.give_back)
        await trio.sleep(SWEEP_INTERVAL)


async def keep_leases(stores: Stores, reach: Reach, log: FilteringBoundLogger) -> None:
    """Tell other servers what the stores use, until cancelled.

    Args:
        stores: the stores of all callers.
        reach: is told of each answer of the database.
        log: Logger.
    """
    thread = trio.CapacityLimiter(1)  # of its own: it must not wait for transfers
    while True:
        await trio.sleep(RENEW_INTERVAL)
        try:
            await trio.to_thread.run_sync(stores.renew, limiter=thread)
        except OSError as error:
            log.warning("the stores could not be renewed", error=str(error))
        else:
            reach.answered()


async def keep_tokens(table: TokenTable, log: FilteringBoundLogger) -> None:
    """Read the tokens that other servers have changed, until cancelled.

    While they cannot be read, those that were known stay valid: nobody is disconnected because a database restarts.

    Args:
        table: the tokens; they have been read once.
        log: Logger.
    """
    thread = trio.CapacityLimiter(1)  # of its own: a revocation must not wait for transfers
    failing = False
    while True:
        await trio.sleep(TOKENS_INTERVAL)
        try:
            await trio.to_thread.run_sync(table.refresh, limiter=thread)
        except OSError as error:
            if not failing:
                log.error("tokens cannot be read; revocations do not reach this server", error=str(error))  # noqa: TRY400 - the database failed; no bug
            failing = True
        else:
            if failing:
                log.info("tokens can be read again")
            failing = False


async def measure_lag(metrics: Metrics) -> None:
    """Measure the delay of the event loop at intervals, until cancelled."""
    while True:
        due = trio.current_time() + LAG_INTERVAL
        await trio.sleep_until(due)
        metrics.loop_lag.observe(trio.current_time() - due)
