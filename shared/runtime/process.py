"""The life of a process: its signals, its server, its background loops."""

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

_TICKS_A_SECOND = 10  # of uvicorn's
_LAST_WORDS_SECONDS = 0.1
"""For a request to end when its peer has been dropped, and when it is cancelled."""

_ACCEPTED_A_TURN = 8
"""New sockets, of each that is listened on."""

_COLLECT_AFTER = (20_000, 50, 100)
"""New objects, and collections of the younger generation, before the next is looked through."""

Loop = Callable[[], Coroutine[Any, Any, None]]


@contextmanager
def stop_signals() -> Generator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, once or repeatedly.

    Uvicorn would raise the signal again at its end, and no surrounding
    ``async with`` would close; so the signals are ours, from start to end.
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
        http: Makes the protocol of a connection. What it puts among the server's connections
            is a `shared.web.http_protocol.Peer`, so that nobody is waited for without end.
        ws: Makes that of a WebSocket; by default a request for one is one like others.
        others: Of uvicorn's.
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
            drain: Runs when nobody new is let in and all connections are still open.
            graceful_seconds: From the stop until requests that are not answered are given up.
                What the drain takes is within it, not before it.
        """
        super().__init__(config)
        limits = limits or PeerLimits()
        config.timeout_keep_alive = limits.keep_alive_seconds  # type: ignore[assignment]
        self.server_state.connections = Peers(  # type: ignore[assignment]
            max_sockets=limits.max_sockets, max_idle=limits.max_idle
        )
        self._stop = stop
        self._drain = drain
        self._graceful_seconds = graceful_seconds

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, and listen no more whatever ends it: a uvloop waits for its listeners' ends."""
        try:
            await super().serve(sockets)
        finally:
            for server in getattr(self, "servers", ()):  # there are none before it has begun
                server.close()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield  # they are stop_signals' business

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on each socket several times over.

        The loop accepts one connection in a turn for each that it listens on, however many
        wait; and in a flood a turn may take milliseconds.
        """
        twins = [each.dup() for each in sockets or [] for _ in range(_ACCEPTED_A_TURN - 1)]
        await super().startup([*(sockets or []), *twins] or None)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            end_late_peers(self.server_state, asyncio.get_running_loop().time())
        return await super().on_tick(counter) or self._stop.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's, which begins to count when we have ended, and waits twice."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._graceful_seconds
        await leave_to_siblings(sockets or [])
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        if self._drain is not None:
            await self._drain()
        await self._end_requests(ends_at)

    async def _end_requests(self, ends_at: float) -> None:
        """Let requests be answered; then drop who is still sending his, without a complaint."""
        state, loop = self.server_state, asyncio.get_running_loop()
        for connection in tuple(state.connections):
            connection.shutdown()
        await _until_done(state.tasks, ends_at - loop.time())
        for connection in tuple(state.connections):
            connection.transport.abort()
        await _until_done(state.tasks, _LAST_WORDS_SECONDS)
        if state.tasks:
            log.warning("requests_given_up", count=len(state.tasks))
            for task in tuple(state.tasks):
                task.cancel()
            await _until_done(state.tasks, _LAST_WORDS_SECONDS)


async def _until_done(tasks: set[asyncio.Task[None]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(tuple(tasks), timeout=max(seconds, 0))


@asynccontextmanager
async def running(*loops: Loop) -> AsyncGenerator[None]:
    """Run the loops beside the body; one that raises ends the body and is heard of.

    At the end of the body they are cancelled and waited for. This is for what a command can't go
    on without; a service's loops are run by `shared.runtime.supervision`.
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

    Nearly all that a service makes is freed by reference counts. Looking for cycles as often
    as Python does by default took up to a quarter of a connect.
    """
    gc.freeze()  # what was imported stays
    gc.set_threshold(*_COLLECT_AFTER)
    gc.enable()
    uvloop.run(main)
