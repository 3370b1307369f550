"""What becomes of events when a process stops: none waits for an ack that nobody will send."""

import asyncio
from dataclasses import replace

from clients.python.tests.bus.consuming import (
    QUICK,
    OrderPaid,
    a_name,
    consuming,
    state_of,
    until_settled,
)
from hubbub_client.bus import ConsumerLimits, Events, Received, connect
from hubbub_client.nats.client import Bus
from tests.fixtures.waiting import eventually

ONE = replace(QUICK, max_handlers=1, ack_wait_seconds=600)
"""With such an ack wait a test fails if an event is not given back."""


class Process:
    """A process of a consumer whose handlers end when they are told to."""

    def __init__(self, name: str, service: str, limits: ConsumerLimits) -> None:
        self.events = Events(name, limits=limits)
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.deliveries: list[int] = []
        self.may_end = asyncio.Event()
        self.events.on(OrderPaid, service=service)(self._handle)

    async def _handle(self, event: OrderPaid, received: Received) -> None:
        self.begun.append(event.order_id)
        self.deliveries.append(received.deliveries)
        await self.may_end.wait()
        self.ended.append(event.order_id)


async def test_a_handler_under_way_ends_before_the_process_does(nats_url: str, bus: Bus) -> None:
    name = a_name()
    process = Process(f"{name}-mailer", name, ONE)
    async with connect(nats_url, service=name) as shop, asyncio.TaskGroup() as group:
        running = group.create_task(process.events.run(nats_url))
        await process.events.until_ready()
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: process.begun == [1])

        running.cancel()
        await shop.emit(OrderPaid(order_id=2))
        process.may_end.set()
        await eventually(running.done)

    assert process.begun == process.ended == [1]
    state = await state_of(bus, f"{name}-mailer")
    assert (state["num_ack_pending"], state["num_pending"]) == (0, 1)


async def test_what_has_not_begun_is_given_to_another_process_at_once(
    nats_url: str, bus: Bus
) -> None:
    name = a_name()
    limits = replace(ONE, max_handlers=2)
    stopping, other = (Process(f"{name}-mailer", name, limits) for _ in range(2))
    other.may_end.set()
    async with connect(nats_url, service=name) as shop, asyncio.TaskGroup() as group:
        running = group.create_task(stopping.events.run(nats_url))
        await stopping.events.until_ready()
        for number in range(4):
            await shop.emit(OrderPaid(order_id=number))
        await eventually(lambda: stopping.begun == [0, 1])

        running.cancel()
        async with consuming(other.events, nats_url):
            await eventually(lambda: sorted(other.ended) == [2, 3])
            stopping.may_end.set()
            await until_settled(bus, f"{name}-mailer")
        await eventually(running.done)

    assert sorted(stopping.ended) == [0, 1]
    assert max(other.deliveries) <= 2


async def test_a_handler_that_does_not_end_in_time_is_cancelled_and_its_event_given_back(
    nats_url: str, bus: Bus
) -> None:
    name = a_name()
    stuck = Process(f"{name}-mailer", name, replace(ONE, stop_seconds=0.2))
    other = Process(f"{name}-mailer", name, ONE)
    other.may_end.set()
    async with connect(nats_url, service=name) as shop:
        async with consuming(stuck.events, nats_url):
            await shop.emit(OrderPaid(order_id=1))
            await eventually(lambda: stuck.begun == [1])
        async with consuming(other.events, nats_url):
            await eventually(lambda: other.ended == [1])

    assert stuck.ended == []


async def test_a_process_stops_though_the_bus_has_never_been_there() -> None:
    process = Process("mailer", "shop", replace(ONE, stop_seconds=0.2))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(process.events.run("nats://127.0.0.1:9"))
        await asyncio.sleep(0)
        running.cancel()
        await eventually(running.done)

    assert running.cancelled()
