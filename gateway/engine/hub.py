"""Every open socket of this process: how they begin, the one sweep over them, and the drain."""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from starlette.websockets import WebSocket

from gateway.engine.asgi import AsgiSocket
from gateway.engine.connection import Connection, Receiver
from gateway.engine.limits import Limits
from gateway.engine.uvicorn_protocol import transport_of
from gateway.errors import RESTARTING, Close

_TICK_SECONDS = 0.05
_SWEEP_SLICE = 1000  # connections between two turns of the loop


class Hub:
    """Holds every open connection and what they have in common."""

    def __init__(
        self, limits: Limits, *, on_closed: Callable[[Close], None] = lambda _: None
    ) -> None:
        self._limits = limits
        self._on_closed = on_closed
        self._connections: set[Connection] = set()
        self._lingering: deque[tuple[float, asyncio.Transport]] = deque()
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        return len(self._connections)

    async def serve(
        self,
        websocket: WebSocket,
        open_receiver: Callable[[Connection], Receiver],
        *,
        subprotocol: str | None = None,
    ) -> None:
        """Accept the socket and carry it until it is over, and all work for it is done."""
        try:
            await websocket.accept(subprotocol)
        except OSError:
            return  # it went away in its own handshake
        connection: Connection | None = None
        try:
            async with asyncio.TaskGroup() as group:
                socket = AsgiSocket(websocket, group, self._limits)
                connection = socket.connection
                self._connections.add(connection)
                close = await socket.run(open_receiver(connection))
                self._on_closed(close)
        finally:
            if connection is not None:
                self._forget(connection, websocket)

    async def sweep(self) -> None:
        """Look at every connection once per `sweep_seconds`, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.sweep_seconds)
            monotonic, unix = loop.time(), datetime.now(UTC).timestamp()
            for number, connection in enumerate(tuple(self._connections), start=1):
                connection.check(monotonic=monotonic, unix=unix)
                if number % _SWEEP_SLICE == 0:
                    await asyncio.sleep(0)
            while self._lingering and self._lingering[0][0] <= monotonic:
                self._lingering.popleft()[1].abort()

    async def drain(self) -> None:
        """Ask everybody to come back elsewhere, at a pace that the others can bear.

        Returns when all are gone and what they asked for is done, after `drain_seconds` at
        the latest; what is left then is dropped.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        waiting = deque(self._connections)
        pace = max(
            self._limits.drain_closes_per_second,
            len(waiting) / (self._limits.drain_seconds / 2),  # the other half is to flush
        )
        closed = 0
        while waiting:
            due = min(round((loop.time() - started) * pace) + 1 - closed, len(waiting))
            for _ in range(due):
                waiting.popleft().close(*RESTARTING)
            closed += due
            await asyncio.sleep(_TICK_SECONDS if waiting else 0)
        try:
            async with asyncio.timeout_at(started + self._limits.drain_seconds):
                while self._connections:
                    for connection in self._connections:
                        connection.close(*RESTARTING)  # who came in meanwhile
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()

    def _forget(self, connection: Connection, websocket: WebSocket) -> None:
        """The socket may outlive it, until its peer has taken and answered the close."""
        ends_at = asyncio.get_running_loop().time() + self._limits.close_seconds
        self._lingering.append((ends_at, transport_of(websocket.scope)))
        self._connections.discard(connection)
        if not self._connections:
            self._emptied.set()
