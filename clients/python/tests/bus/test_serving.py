"""A process that serves until it is told to stop."""

import asyncio
import os
import signal
import sys
from dataclasses import replace

import pytest

from clients.python.tests.bus.consuming import (
    QUICK,
    SECONDS,
    OrderPaid,
    a_name,
    consuming,
    until_settled,
)
from hubbub_client.bus import Events, Received, connect
from hubbub_client.nats.client import Bus
from tests.fixtures.waiting import eventually

STUCK = """
import asyncio, sys
from hubbub_client.bus import ConsumerLimits, Events
from pydantic import BaseModel

url, name = sys.argv[1:]
events = Events(name, limits=ConsumerLimits(ack_wait_seconds=1))

class OrderPaid(BaseModel):
    order_id: int

@events.on(OrderPaid, service=name)
async def hear(event: OrderPaid) -> None:
    print("begun", event.order_id, flush=True)
    await asyncio.Event().wait()

async def main() -> None:
    async with events.running(url):
        await events.until_ready()
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_handlers_under_way_end(
    nats_url: str, bus: Bus, number: signal.Signals
) -> None:
    name, begun, may_end = a_name(), asyncio.Event(), asyncio.Event()
    events = Events(name, limits=replace(QUICK, ack_wait_seconds=600))

    @events.on(OrderPaid, service=name)
    async def hear(event: OrderPaid) -> None:
        begun.set()
        await may_end.wait()

    async with asyncio.TaskGroup() as group, asyncio.timeout(SECONDS):
        serving = group.create_task(events.serve(nats_url))
        await events.until_ready()
        async with connect(nats_url, service=name) as shop:
            await shop.emit(OrderPaid(order_id=1))
        await begun.wait()

        os.kill(os.getpid(), number)
        may_end.set()
        await eventually(serving.done)
        await until_settled(bus, name)

    assert not serving.cancelled()


async def test_who_cancels_it_gets_what_that_is(nats_url: str, bus: Bus) -> None:
    events = Events(a_name(), limits=QUICK)

    @events.on(OrderPaid)
    async def hear(event: OrderPaid) -> None:
        return

    async with asyncio.TaskGroup() as group:
        serving = group.create_task(events.serve(nats_url))
        await events.until_ready()
        serving.cancel()
        await eventually(serving.done)

    assert serving.cancelled()


async def test_the_events_of_a_process_that_is_killed_go_to_another(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), list[tuple[int, int]]()
    events = Events(name, limits=replace(QUICK, ack_wait_seconds=1))

    @events.on(OrderPaid, service=name)
    async def hear(event: OrderPaid, received: Received) -> None:
        heard.append((event.order_id, received.deliveries))

    stuck = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUCK, nats_url, name, stdout=asyncio.subprocess.PIPE
    )
    assert stuck.stdout is not None
    async with connect(nats_url, service=name) as shop, asyncio.timeout(SECONDS):
        assert await stuck.stdout.readline() == b"ready\n"
        await shop.emit(OrderPaid(order_id=1))
        assert await stuck.stdout.readline() == b"begun 1\n"
        stuck.kill()
        await stuck.wait()
        async with consuming(events, nats_url):
            await eventually(lambda: bool(heard))

    order_id, deliveries = heard[0]
    assert order_id == 1
    assert deliveries > 1
