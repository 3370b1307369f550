"""200 peers without a token flood the gateway: how long others wait meanwhile.

Four tabs at a time connect, get their `welcome` and leave; another one sends a ping every 10 ms.
This is measured without a flood, and then with one of each kind.
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
"""Those of native/flood.c."""
CONNECTING = 4
PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 60.0
"""For connects and round trips that are under way when the flood ends."""


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    figures: dict[str, float] = {}
    for kind in (None, *KINDS):
        connects, trips = await _latencies(target, kind, scale)
        name = kind or "calm"
        figures |= {
            f"{name}: connect p50, ms": _ms(connects, 0.5),
            f"{name}: connect p99, ms": _ms(connects, 0.99),
            f"{name}: round trip p50, ms": _ms(trips, 0.5),
            f"{name}: round trip p99, ms": _ms(trips, 0.99),
        }
        await scale.until_quiet(target.pid)
    return figures


async def _latencies(
    target: Target, kind: str | None, scale: Scale
) -> tuple[list[float], list[float]]:
    """The durations of connects, and of round trips of the open tab.

    Those that are under way when the flood ends count too.
    """
    connects: list[float] = []
    trips: list[float] = []
    seconds = SECONDS / scale.value
    async with _tab(target, 1) as tab:
        ends_at = time.perf_counter() + seconds
        async with asyncio.timeout(seconds + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            for user_id in range(2, 2 + CONNECTING):
                group.create_task(_keep_connecting(target, user_id, ends_at, connects))
            group.create_task(_keep_asking(tab, ends_at, trips))
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


async def _keep_connecting(target: Target, user_id: int, ends_at: float, took: list[float]) -> None:
    """Connect again and again. One that is refused is tried again, and its duration goes on."""
    began = time.perf_counter()
    while not took or began < ends_at:
        with suppress(ConnectionClosed):
            async with _tab(target, user_id):
                took.append(time.perf_counter() - began)
                began = time.perf_counter() + PAUSE_SECONDS
        await asyncio.sleep(PAUSE_SECONDS)


async def _keep_asking(tab: ClientConnection, ends_at: float, took: list[float]) -> None:
    while not took or time.perf_counter() < ends_at:
        began = time.perf_counter()
        await tab.send('{"type":"ping"}')
        while json.loads(await tab.recv())["type"] != "pong":
            pass
        took.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def _tab(target: Target, user_id: int) -> AsyncGenerator[ClientConnection]:
    """A connection that has got its `welcome`, in a room of its own."""
    url = f"ws://127.0.0.1:{target.port}{target.path(user_id, room=f'r{user_id}')}"
    async with connect(
        url, compression=None, open_timeout=None, ping_interval=None, close_timeout=0.1
    ) as tab:
        await tab.recv()
        yield tab


def _ms(seconds: Sequence[float], quantile: float) -> float:
    return round(sorted(seconds)[int(len(seconds) * quantile)] * 1e3, 2)
