"""What is emitted is handled: by whom, how often, and from where on."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from clients.python.tests.bus.consuming import (
    QUICK,
    SECONDS,
    OrderLost,
    OrderPaid,
    OrderPaidV2,
    a_name,
    a_shop,
    consuming,
    state_of,
    until_older,
    until_settled,
)
from hubbub_client.bus import Events, Received, connect
from hubbub_client.nats.client import Bus
from tests.fixtures.waiting import eventually

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_handler_gets_the_event_and_if_it_asks_what_is_known_of_it(
    nats_url: str, bus: Bus
) -> None:
    events, heard = Events(a_name(), limits=QUICK), list[object]()

    @events.on(OrderPaid)
    async def first(event: OrderPaid) -> None:
        heard.append(event)

    @events.on(OrderPaidV2)
    async def second(event: OrderPaidV2, received: Received) -> None:
        heard.extend([event, received])

    name = a_name()
    async with connect(nats_url, service=name) as shop, consuming(events, nats_url):
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: len(heard) == 1)
        event_id = await shop.emit(OrderPaidV2(order_id=2, total="9.50"), traceparent=TRACE)
        await eventually(lambda: len(heard) == 3)

    assert heard[:2] == [OrderPaid(order_id=1), OrderPaidV2(order_id=2, total="9.50")]
    received = heard[2]
    assert isinstance(received, Received)
    assert (received.id, received.service) == (event_id, name)
    assert (received.traceparent, received.deliveries) == (TRACE, 1)


async def test_a_consumer_begins_with_what_is_published_from_then_on_or_with_all_there_is(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), Counter[str]()
    late, from_all = Events(a_name(), limits=QUICK), Events(a_name(), begin="all", limits=QUICK)

    @late.on(OrderPaid, service=name)
    async def hear_late(event: OrderPaid) -> None:
        heard[f"late {event.order_id}"] += 1

    @from_all.on(OrderPaid, service=name)
    async def hear_all(event: OrderPaid) -> None:
        heard[f"all {event.order_id}"] += 1

    async with connect(nats_url, service=name) as shop:
        await shop.emit(OrderPaid(order_id=1))
        async with consuming(late, nats_url), consuming(from_all, nats_url):
            await shop.emit(OrderPaid(order_id=2))
            await eventually(lambda: heard.total() == 3)

    assert heard == {"late 2": 1, "all 1": 1, "all 2": 1}


async def test_what_happens_while_no_process_runs_is_handled_by_the_next(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), list[int]()

    def a_process() -> Events:
        events = Events(f"{name}-mailer", limits=QUICK)

        @events.on(OrderPaid, service=name)
        async def hear(event: OrderPaid) -> None:
            heard.append(event.order_id)

        return events

    async with connect(nats_url, service=name) as shop:
        async with consuming(a_process(), nats_url):
            await shop.emit(OrderPaid(order_id=1))
            await eventually(lambda: heard == [1])
        await shop.emit(OrderPaid(order_id=2))
        async with consuming(a_process(), nats_url):
            await eventually(lambda: heard == [1, 2])


async def test_only_events_that_have_a_handler_come_at_all(nats_url: str, bus: Bus) -> None:
    events, heard = Events(a_name(), limits=QUICK), list[int]()
    async with a_shop(nats_url) as shop, a_shop(nats_url) as another:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            heard.append(event.order_id)

        async with consuming(events, nats_url):
            await another.emit(OrderPaid(order_id=1))
            await shop.emit(OrderLost(order_id=2))
            await shop.emit(OrderPaid(order_id=3))
            await eventually(lambda: heard == [3])

    delivered = (await state_of(bus, events.name))["delivered"]["consumer_seq"]
    assert delivered == 1


async def test_processes_of_one_name_share_the_events(nats_url: str, bus: Bus) -> None:
    name, shares = a_name(), Counter[str]()
    everybody_has_one = asyncio.Event()

    def a_process(who: str) -> Events:
        events = Events(f"{name}-mailer", limits=replace(QUICK, max_handlers=1))

        @events.on(OrderPaid, service=name)
        async def hear(event: OrderPaid) -> None:
            shares[who] += 1
            if len(shares) == 3:
                everybody_has_one.set()
            await everybody_has_one.wait()

        return events

    async with (
        connect(nats_url, service=name) as shop,
        consuming(a_process("a"), nats_url),
        consuming(a_process("b"), nats_url),
        consuming(a_process("c"), nats_url),
    ):
        for number in range(30):
            await shop.emit(OrderPaid(order_id=number))
        await eventually(lambda: shares.total() == 30)
        await until_settled(bus, f"{name}-mailer")

    assert shares.total() == 30
    assert len(shares) == 3


async def test_a_long_handler_keeps_its_event(nats_url: str, bus: Bus) -> None:
    name, begun, may_end = a_name(), list[int](), asyncio.Event()

    def a_process() -> Events:
        # The loop may stand still for two thirds of it.
        events = Events(f"{name}-mailer", limits=replace(QUICK, ack_wait_seconds=4))

        @events.on(OrderPaid, service=name)
        async def hear(event: OrderPaid) -> None:
            begun.append(event.order_id)
            await may_end.wait()

        return events

    async with (
        connect(nats_url, service=name) as shop,
        consuming(a_process(), nats_url),
        consuming(a_process(), nats_url),
    ):
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: begun == [1])
        await until_older(bus, f"{name}-mailer", seconds=5)
        may_end.set()
        await until_settled(bus, f"{name}-mailer")

    assert begun == [1]


async def test_no_more_handlers_run_at_a_time_than_are_allowed(nats_url: str, bus: Bus) -> None:
    events, most = Events(a_name(), limits=replace(QUICK, max_handlers=3)), list[int]()
    running = 0
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            nonlocal running
            running += 1
            most.append(running)
            await asyncio.sleep(0)
            running -= 1

        async with consuming(events, nats_url):
            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(shop.emit(OrderPaid(order_id=number)))
            await eventually(lambda: len(most) == 50)

    assert 1 < max(most) <= 3


async def test_a_consumer_without_handlers_and_a_malformed_url_are_refused(nats_url: str) -> None:
    events = Events(a_name())
    with pytest.raises(ValueError, match="no handler"):
        await events.run(nats_url)

    async def ignore(event: OrderPaid) -> None:
        return

    events.on(OrderPaid)(ignore)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(ValueError, match=r"127\.0\.0\.1:none"):
            await events.run("nats://127.0.0.1:none")
    for name in ("notify", "", "A", "a.b", "*", "a" * 33):
        with pytest.raises(ValueError, match=r"notify|called"):
            Events(name)


async def test_what_the_body_raises_is_raised(nats_url: str, bus: Bus) -> None:
    events = Events(a_name(), limits=QUICK)

    async def ignore(event: OrderPaid) -> None:
        return

    events.on(OrderPaid)(ignore)
    with pytest.raises(KeyError, match="broken"):
        async with events.running(nats_url):
            raise KeyError("broken")


async def test_the_bus_keeps_the_limits_of_a_consumer(nats_url: str, bus: Bus) -> None:
    limits = replace(QUICK, ack_wait_seconds=7, max_unsettled=9, forget_seconds=3600)
    events = Events(a_name(), limits=limits)

    async def ignore(event: OrderPaid) -> None:
        return

    events.on(OrderPaid)(ignore)
    async with consuming(events, nats_url):
        config = (await state_of(bus, events.name))["config"]

    assert config["ack_wait"] == 7 * 10**9
    assert config["max_ack_pending"] == 9
    assert config["inactive_threshold"] == 3600 * 10**9
