"""The benchmarks. Each drives a server that runs on a core of its own, and returns its figures."""

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import count

import httpx2

from bench.load import LoadConnection, connect_all
from bench.measures import Percentiles, cpu_seconds, pss_kib
from bench.servers import API_KEY, Target

BODY = "x" * 40
DEADLINE_SECONDS = 60


async def _paths(target: Target, connections: int) -> list[str]:
    return [target.path(user_id) for user_id in range(1, connections + 1)]


def _message(identifier: object = None) -> bytes:
    command = {"type": "message", "body": BODY}
    return json.dumps(
        command if identifier is None else {**command, "id": str(identifier)}
    ).encode()


def _close(connections: list[LoadConnection]) -> None:
    for connection in connections:
        connection.transport.abort()


async def fan_out(target: Target, *, listeners: int, rate: int, seconds: int) -> dict[str, float]:
    """One publisher, ``listeners`` tabs, ``rate`` publications a second."""
    total = rate * seconds
    received, done = count(1), asyncio.Event()
    sent_at: list[float] = []
    last_of: dict[int, int] = {}
    latencies: list[float] = []

    def on_frame(connection: LoadConnection, payload: bytes) -> None:
        if not target.is_message(payload):
            return
        number = last_of.get(id(connection), 0)
        last_of[id(connection)] = number + 1
        latencies.append(time.perf_counter() - sent_at[number])
        if next(received) == total * (listeners + 1):
            done.set()

    connections = await connect_all(target.port, await _paths(target, listeners + 1), on_frame)
    await asyncio.sleep(2)  # let what the arrivals caused settle: this is no test
    before, began = cpu_seconds(target.pid), time.perf_counter()
    for number in range(total):
        await asyncio.sleep(max(0, began + number / rate - time.perf_counter()))
        sent_at.append(time.perf_counter())
        connections[0].send(_message())
    async with asyncio.timeout(DEADLINE_SECONDS):
        await done.wait()
    spent = cpu_seconds(target.pid) - before
    _close(connections)
    times = Percentiles.of(latencies)
    return {
        "cpu_us_per_delivery": round(spent / (total * (listeners + 1)) * 1e6, 2),
        "p50_ms": times.p50,
        "p99_ms": times.p99,
    }


async def idle(target: Target, *, connections: int) -> dict[str, float]:
    """Authenticated connections that do nothing: memory of each, and CPU of its connect."""
    warm = await connect_all(target.port, [target.path(0x7FFFFFFF)], lambda *_: None)
    await asyncio.sleep(1)
    memory, cpu = pss_kib(target.pid), cpu_seconds(target.pid)
    opened = await connect_all(target.port, await _paths(target, connections), lambda *_: None)
    connect_cpu = cpu_seconds(target.pid) - cpu
    await asyncio.sleep(3)
    grown = pss_kib(target.pid) - memory
    _close(warm + opened)
    return {
        "kib_per_connection": round(grown / connections, 2),
        "cpu_us_per_connect": round(connect_cpu / connections * 1e6, 1),
    }


async def publish_ws(
    target: Target, *, connections: int, in_flight: int, messages: int
) -> dict[str, float]:
    """Acked publications a second through ``/ws/chat``, each connection in a room of its own."""
    done, acked, numbers = asyncio.Event(), count(1), count()

    def on_frame(connection: LoadConnection, payload: bytes) -> None:
        if b'"type":"ack"' in payload:
            if next(acked) == messages:
                done.set()
            connection.send(_message(next(numbers)))

    paths = [target.path(user, room=f"r{user}") for user in range(1, connections + 1)]
    opened = await connect_all(target.port, paths, on_frame)
    cpu, began = cpu_seconds(target.pid), time.perf_counter()
    for connection in opened:
        for _ in range(in_flight):
            connection.send(_message(next(numbers)))
    async with asyncio.timeout(DEADLINE_SECONDS):
        await done.wait()
    took, spent = time.perf_counter() - began, cpu_seconds(target.pid) - cpu
    _close(opened)
    return {"acked_per_s": round(messages / took), "cpu_us_each": round(spent / messages * 1e6, 1)}


async def publish_http(target: Target, *, callers: int, messages: int) -> dict[str, float]:
    """Publications a second through ``POST /api/publish``."""

    async def call(client: httpx2.AsyncClient, numbers: Iterator[int]) -> None:
        for number in numbers:
            if number >= messages:
                return
            body = {"channel": f"chat:h{number % 16}", "data": {"text": BODY}}
            answer = await client.post("/api/publish", json=body)
            assert "result" in answer.json(), answer.text

    numbers = count()
    cpu, began = cpu_seconds(target.pid), time.perf_counter()
    async with (
        httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{target.port}", headers={"X-API-Key": API_KEY}
        ) as client,
        asyncio.timeout(DEADLINE_SECONDS),
        asyncio.TaskGroup() as group,
    ):
        for _ in range(callers):
            group.create_task(call(client, numbers))
    took, spent = time.perf_counter() - began, cpu_seconds(target.pid) - cpu
    return {"acked_per_s": round(messages / took), "cpu_us_each": round(spent / messages * 1e6, 1)}


async def last_of_100(target: Target, *, messages: int) -> dict[str, float]:
    """Milliseconds from send to the receipt by the last of 100 receivers, one at a time."""
    waiting, arrived = 0, asyncio.Event()

    def on_frame(_connection: LoadConnection, payload: bytes) -> None:
        nonlocal waiting
        if target.is_message(payload):
            waiting -= 1
            if waiting == 0:
                arrived.set()

    opened = await connect_all(target.port, await _paths(target, 100), on_frame)
    await asyncio.sleep(1)
    times = []
    for _ in range(messages):
        waiting = 100
        arrived.clear()
        began = time.perf_counter()
        opened[0].send(_message())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await arrived.wait()
        times.append(time.perf_counter() - began)
    _close(opened)
    measured = Percentiles.of(times)
    return {"p50_ms": measured.p50, "p99_ms": measured.p99}
