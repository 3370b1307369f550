"""Every open socket of this process: the one sweep over them, their work, and the drain."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from gateway.errors import EndReason
from gateway.transport.coalescer import WriteCoalescer
from gateway.transport.connection import Connection
from gateway.transport.frames import Close
from gateway.transport.shared_state import Limits, SharedState
from gateway.transport.websocket import Reading, ReadTurns, UnfinishedMessages

T = TypeVar("T")

_TICK_SECONDS = 0.05
_SWEEP_SLICE = 5000
"""Connections that are checked in one turn of the loop."""


class Hub:
    """Checks the open connections, and ends them when the process ends."""

    def __init__(
        self,
        limits: Limits,
        *,
        on_closed: Callable[[Close], None] = lambda _: None,
        on_failed: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_failed`` is told of each connection that ends because something for it raised."""
        self.limits = limits
        self.shared = SharedState[Connection](limits, on_closed=on_closed, on_failed=on_failed)
        self.reading = Reading(ReadTurns(self.shared.loop.call_soon), UnfinishedMessages(limits))

    def __len__(self) -> int:
        return len(self.shared.connections)

    @property
    def coalescer(self) -> WriteCoalescer:
        return self.shared.coalescer

    def working(self) -> AbstractAsyncContextManager[None]:
        """Let connections start tasks inside; those that have not ended at its end are cancelled.

        It is apart from the sweep, which may fail and be started again.
        """
        return self.shared.work.running()

    async def run(self) -> None:
        """Check every connection once per `sweep_seconds`, until cancelled."""
        while True:
            await asyncio.sleep(self.limits.sweep_seconds)
            await self._sweep()

    async def _sweep(self) -> None:
        """Not within `run`, which would hold on to the last connection while it sleeps."""
        now = time.monotonic()
        self.reading.unfinished.end_late(now)
        for number, connection in enumerate(tuple(self.shared.connections), start=1):
            if connection.wakes_at <= now:
                _check(connection, now)
            if number % _SWEEP_SLICE == 0:
                await asyncio.sleep(0)

    async def drain(self) -> None:
        """Ask every peer to reconnect elsewhere, at a pace that the other gateways can bear.

        Returns when all connections are gone and their work is done. After `drain_seconds` what
        is left is dropped.
        """
        shared, limits = self.shared, self.limits
        ends_at = shared.loop.time() + limits.drain_seconds
        async for connection in _paced(
            tuple(shared.connections),
            per_second=limits.drain_closes_per_second,
            within_seconds=limits.drain_seconds / 2,  # the other half is to flush
        ):
            connection.close(EndReason.RESTARTING)
        try:
            async with asyncio.timeout_at(ends_at):
                while shared.connections or not shared.work.is_done:
                    for connection in shared.connections:
                        connection.close(EndReason.RESTARTING)  # it came meanwhile
                    shared.changed.clear()
                    await shared.changed.wait()
        except TimeoutError:
            for connection in tuple(shared.connections):
                connection.abort()
            shared.work.cancel()


async def _paced(
    items: Sequence[T], *, per_second: float, within_seconds: float
) -> AsyncGenerator[T]:
    """Yield the items evenly over time, in a random order.

    Peers that leave together come back together, to the few gateways that are left.

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


def _check(connection: Connection, now: float) -> None:
    try:
        connection.check(now)
    except Exception as error:
        connection.abandon(error, "check_failed")
