"""The life of a process: its signals, its HTTP server, its event loop."""

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from shared.runtime.listening import leave_to_siblings
from shared.web.http_protocol import BoundedHttp, end_late_peers
from shared.web.peers import PeerLimits, Peers
from shared.web.request_turns import RequestTurns

log = structlog.get_logger(__name__)

_TICKS_A_SECOND = 10  # of uvicorn's main loop
_CANCEL_SECONDS = 0.1
"""For requests to end after their connections are aborted, and again after they are cancelled."""

_ACCEPTED_A_TURN = 8
"""Connections accepted on each listening socket in one turn of the loop."""

_COLLECT_AFTER = (20_000, 50, 100)
"""Thresholds of the garbage collector: new objects, and collections of the younger generation."""

Loop = Callable[[], Coroutine[Any, Any, None]]


@contextmanager
def stop_signals() -> Generator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; repeated signals change nothing.

    Uvicorn would raise the signal again when it ends, and no surrounding ``async with`` would
    close. So it never handles signals.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def server_config(
    app: ASGIApp,
    *,
    forwarded_allow_ips: str,
    http: Callable[..., asyncio.Protocol] = BoundedHttp,
    ws: Any = "none",
    **others: Any,
) -> uvicorn.Config:
    """How every service is served: no access log (it would print tokens), our own logging.

    Args:
        http: Makes the protocol of a connection. The server's connections are each a
            `shared.web.peers.Peer`, so that none is awaited without end.
        ws: Makes the protocol of a WebSocket; by default there are none.
        others: Further options of uvicorn.
    """
    return uvicorn.Config(
        RequestTurns(app),
        http=http,  # type: ignore[arg-type]  # it asks for a class, and calls it
        ws=ws,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=forwarded_allow_ips,
        **others,
    )


class Server(uvicorn.Server):
    """Serves until ``stop`` is set, and then returns, so that the caller can close the rest."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        stop: asyncio.Event,
        drain: Callable[[], Awaitable[None]] | None = None,
        graceful_seconds: float = 2.0,
        limits: PeerLimits | None = None,
    ) -> None:
        """
        Args:
            drain: Runs when no new connection is accepted and all are still open.
            graceful_seconds: From the stop until unanswered requests are given up, the drain
                included.
        """
        super().__init__(config)
        limits = limits or PeerLimits()
        config.timeout_keep_alive = limits.keep_alive_seconds  # type: ignore[assignment]
        self._peers = Peers(max_sockets=limits.max_sockets, max_idle=limits.max_idle)
        self.server_state.connections = self._peers  # type: ignore[assignment]
        self._stop = stop
        self._drain = drain
        self._graceful_seconds = graceful_seconds

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; however it ends, close the listening sockets: uvloop waits for that."""
        try:
            await super().serve(sockets)
        finally:
            for server in getattr(self, "servers", ()):  # unset before the start
                server.close()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield  # `stop_signals` handles them

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on several duplicates of each socket.

        In a turn the loop accepts one connection for each socket that it listens on, however many
        wait; and in a flood a turn may take milliseconds.
        """
        duplicates = [each.dup() for each in sockets or [] for _ in range(_ACCEPTED_A_TURN - 1)]
        await super().startup([*(sockets or []), *duplicates] or None)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            end_late_peers(self.server_state, asyncio.get_running_loop().time())
        return await super().on_tick(counter) or self._stop.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Replaces uvicorn's, whose timeout would begin after the drain, and count twice."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._graceful_seconds
        await leave_to_siblings(sockets or [])
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        # Or a client that is told to reconnect would send its next request here, in vain.
        self._peers.end_idle()
        if self._drain is not None:
            await self._drain()
        await self._end_requests(ends_at)

    async def _end_requests(self, ends_at: float) -> None:
        """Let requests be answered; then abort connections whose request is incomplete."""
        state, loop = self.server_state, asyncio.get_running_loop()
        for connection in tuple(state.connections):
            connection.shutdown()
        await _until_done(state.tasks, ends_at - loop.time())
        for connection in tuple(state.connections):
            connection.transport.abort()
        await _until_done(state.tasks, _CANCEL_SECONDS)
        if state.tasks:
            log.warning("requests_given_up", count=len(state.tasks))
            for task in tuple(state.tasks):
                task.cancel()
            await _until_done(state.tasks, _CANCEL_SECONDS)


async def _until_done(tasks: set[asyncio.Task[None]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(tuple(tasks), timeout=max(seconds, 0))


@asynccontextmanager
async def running(*loops: Loop) -> AsyncGenerator[None]:
    """Run the loops beside the body; one that raises ends the body, and its error is raised.

    At the end of the body they are cancelled and awaited. This is for loops without which a
    command can't continue; `shared.runtime.supervision` runs the loops of services.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop()) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main coroutine on uvloop.

    Reference counts free nearly all objects of a service. Collecting cycles as often as Python
    does by default took up to a quarter of a connect.
    """
    gc.freeze()  # imported objects stay
    gc.set_threshold(*_COLLECT_AFTER)
    gc.enable()
    uvloop.run(main)
