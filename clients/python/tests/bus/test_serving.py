"""A process that serves until it is told to stop."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from clients.python.tests.bus.consuming import QUICK, SECONDS, OrderPaid, a_name, until_settled
from hubbub_client.bus import Events, connect
from hubbub_client.nats.client import Bus
from tests.fixtures.waiting import eventually


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
