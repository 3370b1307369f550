"""Every open socket of this process: the one sweep over them, their work, and the drain."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from gateway.errors import EndReason
from gateway.transport.coalescer import WriteCoalescer
from gateway.transport.connection import Connection
from gateway.transport.frames import Close
from gateway.transport.limits import Limits
from gateway.transport.turns import Turns
from gateway.transport.unfinished import Unfinished

T = TypeVar("T")

_TICK_SECONDS = 0.05


async def paced(
    items: Sequence[T], *, per_second: float, within_seconds: float
) -> AsyncGenerator[T]:
    """Give the items evenly, in no order that anybody could foresee.

    Those who leave together come back together, to the few gateways that are left.

    Args:
        per_second: More if ``within_seconds`` would not suffice.
    """
    waiting = random.sample(items, len(items))
    pace = max(per_second, len(waiting) / max(within_seconds, _TICK_SECONDS))
    loop = asyncio.get_running_loop()
    began, given = loop.time(), 0
    while waiting:
        due = min((loop.time() - began) * pace + 1 - given, len(waiting))
        for _ in range(round(due)):
            given += 1
            yield waiting.pop()
        await asyncio.sleep(_TICK_SECONDS * random.uniform(0.5, 1.5) if waiting else 0)


_SWEEP_SLICE = 5000  # connections between two turns of the loop


class Hub:
    """Holds every open connection and what they have in common."""

    def __init__(
        self,
        limits: Limits,
        *,
        on_closed: Callable[[Close], None] = lambda _: None,
        on_failed: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_failed`` is told of each connection that ends because something for it raised."""
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.outgoing = WriteCoalescer(self.loop.call_soon)
        self.turns = Turns(self.loop.call_soon)
        self.unfinished = Unfinished(limits)
        self.stalled_bytes = 0
        self._on_closed = on_closed
        self._on_failed = on_failed
        self._connections: set[Connection] = set()
        self._group: asyncio.TaskGroup | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._under_way = 0
        """Without a task, such as what was published and isn't answered yet."""
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._ended.set()  # a drain that waits has to ask this one to leave too

    def ended(self, close: Close) -> None:
        self._on_closed(close)

    def failed(self) -> None:
        self._on_failed()

    def remove(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._ended.set()

    def start(self, connection: Connection, work: Coroutine[Any, Any, None]) -> None:
        """Run something for a connection; if it fails, it costs this connection and no other."""
        assert self._group is not None, "connections come while the hub works"
        task = self._group.create_task(self._run_work(connection, work))
        self._work.add(task)
        task.add_done_callback(self._forget_work)

    def begin_work(self) -> None:
        self._under_way += 1

    def end_work(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._ended.set()

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Let connections have their work done inside; what is left at the end is cancelled.

        It is not the sweep's, which may fail and be started again.
        """
        async with asyncio.TaskGroup() as self._group:
            try:
                yield
            finally:
                for task in self._work:
                    task.cancel()

    async def run(self) -> None:
        """Look at every connection once per `sweep_seconds`, until cancelled."""
        while True:
            await asyncio.sleep(self.limits.sweep_seconds)
            now = time.monotonic()
            self.unfinished.end_late(now)
            for number, connection in enumerate(tuple(self._connections), start=1):
                if connection.wakes_at <= now:
                    self._check(connection, now)
                if number % _SWEEP_SLICE == 0:
                    await asyncio.sleep(0)

    def _check(self, connection: Connection, now: float) -> None:
        try:
            connection.check(now)
        except Exception as error:
            connection.abandon(error, "check_failed")

    async def drain(self) -> None:
        """Ask everybody to come back elsewhere, at a pace that the others can bear.

        Returns when all are gone and what they asked for is done, after `drain_seconds` at
        the latest; what is left then is dropped.
        """
        limits, ends_at = self.limits, self.loop.time() + self.limits.drain_seconds
        async for connection in paced(
            tuple(self._connections),
            per_second=limits.drain_closes_per_second,
            within_seconds=limits.drain_seconds / 2,  # the other half is to flush
        ):
            connection.close(EndReason.RESTARTING)
        try:
            async with asyncio.timeout_at(ends_at):
                while self._connections or self._work or self._under_way:
                    for connection in self._connections:
                        connection.close(EndReason.RESTARTING)  # who came in meanwhile
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()
            for task in self._work:
                task.cancel()

    async def _run_work(self, connection: Connection, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            connection.abandon(error, "connection_work_failed")
        except asyncio.CancelledError:
            connection.abort()  # nobody goes on with it
            raise

    def _forget_work(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        self._ended.set()
