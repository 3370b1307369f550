"""The fault proxy makes a network as bad as it is told to."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e import fault_proxy as module
from tests.e2e.fault_control import FaultControl
from tests.e2e.fault_proxy import FaultProxy, Faults, fault_proxy
from tests.fixtures.ports import free_ports
from tests.fixtures.tcp import a_tcp_server
from tests.fixtures.waiting import eventually
from tests.system.processes import until

ANSWER_SECONDS = 10.0
LATE_SECONDS = 0.2
UNHEARD_SECONDS = 0.3

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def an_echo() -> AsyncGenerator[int]:
    """The port of a server that says what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            while chunk := await reader.read(1024):
                writer.write(chunk)
        writer.close()

    async with a_tcp_server(echo) as port:
        yield port


@asynccontextmanager
async def through_a_proxy() -> AsyncGenerator[tuple[FaultProxy, Streams, int]]:
    """A connection to an echo through a proxy."""
    async with an_echo() as port, fault_proxy("127.0.0.1", port) as (proxy, proxy_port):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy_port)
        yield proxy, (reader, writer), proxy_port
        writer.close()


async def said(streams: Streams, text: bytes) -> bytes:
    reader, writer = streams
    writer.write(text)
    async with asyncio.timeout(ANSWER_SECONDS):
        return await reader.readexactly(len(text))


async def is_silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(UNHEARD_SECONDS):
            await reader.readexactly(1)
    except TimeoutError:
        return True
    return False


async def test_it_carries_bytes_in_their_order_and_passes_the_end_on() -> None:
    async with through_a_proxy() as (proxy, (reader, writer), _port):
        sent = bytes(range(256)) * 4000
        async with asyncio.TaskGroup() as group:
            received = group.create_task(reader.readexactly(len(sent)))
            writer.write(sent)
        writer.write_eof()
        rest = await reader.read()

    assert received.result() == sent
    assert rest == b""
    assert proxy.carried_bytes == 2 * len(sent)


async def test_latency_delays_each_direction_and_jitter_lets_nothing_overtake() -> None:
    async with through_a_proxy() as (proxy, streams, _port):
        proxy.faults = Faults(latency_seconds=LATE_SECONDS, jitter_seconds=LATE_SECONDS / 2)
        began = time.monotonic()
        for number in range(20):
            streams[1].write(b"%d;" % number)
            await asyncio.sleep(0)
        heard = await streams[0].readuntil(b"19;")
        took = time.monotonic() - began

    assert heard == b"".join(b"%d;" % number for number in range(20))
    assert took >= LATE_SECONDS, "there and back, each at least half of it"


async def test_a_stall_keeps_bytes_back_and_loses_none() -> None:
    async with through_a_proxy() as (proxy, streams, _port):
        proxy.faults = Faults(stalled=True)
        streams[1].write(b"later")
        silent = await is_silent(streams[0])
        proxy.faults = Faults()
        heard = await streams[0].readexactly(5)

    assert silent
    assert heard == b"later"


async def test_a_reset_ends_what_is_open_and_lets_new_ones_in() -> None:
    async with through_a_proxy() as (proxy, streams, port):
        await said(streams, b"here")
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            await said(streams, b"gone")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await said((reader, writer), b"again") == b"again"
        writer.close()


async def test_a_cut_is_told_to_nobody_and_for_ever_while_new_ones_may_be_refused() -> None:
    async with through_a_proxy() as (proxy, streams, port):
        await said(streams, b"here")
        proxy.faults = Faults(refusing=True)
        proxy.cut_all()
        streams[1].write(b"lost")
        silent = await is_silent(streams[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(OSError, match="reset"):
            await reader.readexactly(1)
        writer.close()
        proxy.faults = Faults()
        still_silent = await is_silent(streams[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await said((reader, writer), b"again") == b"again"
        writer.close()

    assert silent
    assert still_silent


async def test_a_narrow_network_takes_its_time() -> None:
    async with through_a_proxy() as (proxy, streams, _port):
        proxy.faults = Faults(bytes_per_second=10_000)
        began = time.monotonic()
        await said(streams, b"x" * 2000)
        took = time.monotonic() - began

    assert took >= 0.2


async def test_who_leaves_is_forgotten_at_both_ends() -> None:
    async with through_a_proxy() as (proxy, streams, _port):
        await said(streams, b"here")
        streams[1].transport.abort()
        await eventually(lambda: proxy.open == 0)


@pytest.fixture
def control() -> Iterator[FaultControl]:
    """One in a process of its own, before nothing."""
    port, control_port = free_ports(), free_ports()
    command = [sys.executable, str(Path(module.__file__)), str(port), "127.0.0.1:1"]
    process = subprocess.Popen([*command, str(control_port)])
    try:
        control = FaultControl(f"http://127.0.0.1:{control_port}")
        until(control.answers)
        yield control
    finally:
        process.terminate()
        process.wait(timeout=ANSWER_SECONDS)


def test_as_a_process_it_takes_commands_over_http(control: FaultControl) -> None:
    control.set(latency_seconds=0.5, stalled=True)
    bad = control.state()
    control.set(refusing=True)
    control.cut_all()
    control.reset_all()
    refusing = control.state()

    assert (bad["latency_seconds"], bad["stalled"], bad["refusing"]) == (0.5, True, False)
    assert (refusing["latency_seconds"], refusing["refusing"]) == (0.0, True)
