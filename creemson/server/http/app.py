"""The HTTP app: routes and middleware, for the page, for clients without WebSockets, and for operators.

The app uses the same stores and processor as the WebSocket connections, and reports errors with the same reasons.
"""

from collections.abc import Callable

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from creemson.executors.executor import ClusterState
from creemson.executors.memory import Memory
from creemson.jobs import commands
from creemson.metrics import Metrics, Now
from creemson.server.auth.callers import Callers
from creemson.server.http.handlers import Handlers, Status
from creemson.server.http.middleware import (
    CORS,
    AuthenticationMiddleware,
    ConnectionLimits,
    OriginCheck,
    SecurityHeaders,
)
from creemson.server.http.processor_client import ProcessorClient
from creemson.server.http.responses import WHY, http_error, unexpected_error
from creemson.server.reach import Reach
from creemson.server.refusals import Refusals
from creemson.server.transport.asgi import Gone
from creemson.server.transport.closing import Draining
from creemson.settings.checks import is_loopback
from creemson.settings.sections import Settings
from creemson.storage.stores import Stores

__all__ = ["make_app"]

REFUSALS = frozenset({401, 403, 413, 429, 503, 507})
"""Statuses that are counted and logged as refusals: a limit was reached, or access was denied."""


def make_app(
    *,
    settings: Settings,
    stores: Stores,
    callers: Callers,
    processor: trio.MemorySendChannel[commands.InboxMessage],
    status: Callable[[str], Status],
    draining: Draining,
    memory: Memory | None = None,
    cluster: Callable[[], ClusterState] | None = None,
    reach: Reach | None = None,
    metrics: Metrics,
    refusals: Refusals,
    now: Callable[[], Now],
    logger: FilteringBoundLogger,
) -> ASGIApp:
    """Make the app.

    Args:
        settings: effective settings.
        stores: the stores of all callers.
        callers: authenticates callers and limits their message rates.
        processor: the processor's inbox.
        status: returns the state of the server for ``GET /status`` by a caller.
        draining: set once the server is shutting down.
        memory: decides whether there is enough memory for new work; None disables the check.
        cluster: returns the state of the cluster that jobs run on; None if there is none.
        reach: whether the database answers that this server shares with others; None if it shares none.
        metrics: shown by ``GET /metrics``.
        refusals: counts and logs refusals.
        now: returns the current state of the server for ``GET /metrics``.
        logger: Logger.
    """
    handlers = Handlers(
        settings=settings,
        stores=stores,
        processor_client=ProcessorClient(processor),
        status=status,
        metrics=metrics,
        now=now,
        memory=memory,
        draining=draining,
        cluster=cluster,
        reach=reach,
        logger=logger,
    )
    routes = [
        Route("/", handlers.page),
        Route("/upload", handlers.upload, methods=["POST"]),
        Route("/columns/{filename:path}", handlers.columns),
        Route("/process", handlers.process, methods=["POST"]),
        Route("/download/{filename:path}", handlers.download),
        Route("/status", handlers.status),
        Route("/healthz", handlers.healthz),
        Route("/readyz", handlers.readyz),
        Route("/metrics", handlers.metrics),
        Route("/asyncapi.json", handlers.asyncapi),
        Route("/ws", handlers.not_upgraded),
        Route("/static/{path:path}", handlers.static),
    ]
    allowed = settings.server.allowed_origins
    middleware = [
        Middleware(SecurityHeaders, allowed=allowed),
        Middleware(ConnectionLimits, allowed=allowed),
        Middleware(
            OriginCheck,
            allowed=allowed,
            dns_rebinding_possible=is_loopback(settings.server.host) and not callers.guarded,
        ),
        Middleware(CORS, allowed=allowed),
        Middleware(AuthenticationMiddleware, callers=callers, stores=stores),
    ]
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={HTTPException: http_error, Exception: unexpected_error},
    )
    # A redirect would have an absolute URL, with the wrong scheme behind a proxy that terminates TLS.
    app.router.redirect_slashes = False

    async def isolated(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Logs refusals and exceptions; no exception reaches the connection."""

        async def send_and_log(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in REFUSALS:
                # Without the query, which may contain a secret.
                refusals.note(
                    message["status"],
                    "{}:{}".format(*scope["client"]) if scope.get("client") else None,
                    method=scope["method"],
                    path=scope["path"],
                    why=scope.get(WHY),
                )
            await send(message)

        try:
            await app(scope, receive, send_and_log)
        except (ClientDisconnect, Gone):
            pass
        except Exception:
            logger.exception("HTTP request failed unexpectedly", path=scope["path"])

    return isolated
