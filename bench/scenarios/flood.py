"""200 peers without a token that send whatever they like: what others feel of them at the door.

Meanwhile four tabs at a time connect, are welcomed, and leave; and one that is open asks every
10 ms whether the gateway is there. First without a flood, then under one of each kind.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.cores import LOAD_CORE, on_core
from bench.load import Load
from bench.native import compiled
from bench.scenarios.scale import Scale
from bench.targets import Target

PEERS = 200
SECONDS = 8.0
KINDS = (
    "fragments", "pings", "pongs", "messages", "closes", "bytes", "heads", "handshakes", "requests",
)  # fmt: skip
"""As native/flood.c has them."""
CONNECTING = 4
PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 60.0
"""For what has begun when the flood ends."""


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    figures: dict[str, float] = {}
    for kind in (None, *KINDS):
        connects, trips = await _feel(target, kind, scale)
        name = kind or "calm"
        figures |= {
            f"{name}: connect p50, ms": _ms(connects, 0.5),
            f"{name}: connect p99, ms": _ms(connects, 0.99),
            f"{name}: round trip p50, ms": _ms(trips, 0.5),
            f"{name}: round trip p99, ms": _ms(trips, 0.99),
        }
        await scale.until_quiet(target.pid)
    return figures


async def _feel(target: Target, kind: str | None, scale: Scale) -> tuple[list[float], list[float]]:
    """How long connects took, and round trips of the tab that was open.

    What had no answer before the flood ended is waited for, and counts.
    """
    connects: list[float] = []
    trips: list[float] = []
    seconds = SECONDS / scale.value
    async with _tab(target, 1) as tab:
        ends_at = time.perf_counter() + seconds
        async with asyncio.timeout(seconds + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            for user_id in range(2, 2 + CONNECTING):
                group.create_task(_connect_on(target, user_id, ends_at, connects))
            group.create_task(_ask_on(tab, ends_at, trips))
            if kind is not None:
                async with _flood(target.port, scale.of(PEERS), kind):
                    await asyncio.sleep(seconds)
    return connects, trips


@asynccontextmanager
async def _flood(port: int, peers: int, kind: str) -> AsyncGenerator[None]:
    binary = await compiled("flood")
    with on_core(LOAD_CORE):
        process = await asyncio.create_subprocess_exec(binary, str(port), str(peers), kind)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def _connect_on(target: Target, user_id: int, ends_at: float, took: list[float]) -> None:
    """Who is told to try again later does so; what counts is when it is welcomed."""
    began = time.perf_counter()
    while began < ends_at:
        with suppress(ConnectionClosed):
            async with _tab(target, user_id):
                took.append(time.perf_counter() - began)
                began = time.perf_counter() + PAUSE_SECONDS
        await asyncio.sleep(PAUSE_SECONDS)


async def _ask_on(tab: ClientConnection, ends_at: float, took: list[float]) -> None:
    while not took or time.perf_counter() < ends_at:
        began = time.perf_counter()
        await tab.send('{"type":"ping"}')
        while json.loads(await tab.recv())["type"] != "pong":
            pass
        took.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def _tab(target: Target, user_id: int) -> AsyncGenerator[ClientConnection]:
    """One that was welcomed, in a room of its own."""
    url = f"ws://127.0.0.1:{target.port}{target.path(user_id, room=f'r{user_id}')}"
    async with connect(
        url, compression=None, open_timeout=None, ping_interval=None, close_timeout=0.1
    ) as tab:
        await tab.recv()
        yield tab


def _ms(seconds: Sequence[float], quantile: float) -> float:
    return round(sorted(seconds)[int(len(seconds) * quantile)] * 1e3, 2)
