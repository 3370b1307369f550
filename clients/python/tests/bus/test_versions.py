"""Processes of different versions at the same time: none takes away what another handles."""

import asyncio
from dataclasses import replace

from pydantic import BaseModel

from clients.python.tests.bus.consuming import (
    QUICK,
    SECONDS,
    OrderLost,
    OrderPaid,
    OrderPaidV2,
    a_name,
    a_shop,
    consuming,
    failures_of,
    state_of,
)
from hubbub_client.bus import Events, connect
from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.nats.client import Bus
from tests.fixtures.waiting import eventually


async def test_a_version_that_nobody_here_knows_waits_for_a_process_that_does(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), list[str]()
    # However long the newer one takes to come.
    patient = replace(QUICK, max_deliveries=10_000)
    old, new = (Events(f"{name}-mailer", limits=patient) for _ in range(2))
    async with connect(nats_url, service=name) as shop:

        @old.on(OrderPaid, service=name)
        @new.on(OrderPaid, service=name)
        async def hear(event: OrderPaid) -> None:
            heard.append("first")

        @new.on(OrderPaidV2, service=name)
        async def hear_second(event: OrderPaidV2) -> None:
            heard.append("second")

        async with consuming(old, nats_url):
            await shop.emit(OrderPaidV2(order_id=1, total="2"))
            await shop.emit(OrderPaid(order_id=1))
            await eventually(lambda: heard == ["first"])
            async with consuming(new, nats_url):
                await eventually(lambda: heard == ["first", "second"])


async def test_an_older_version_takes_away_nothing_that_a_newer_one_handles(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), list[object]()
    old, new = (Events(f"{name}-mailer", limits=QUICK) for _ in range(2))

    async def hear(event: BaseModel) -> None:
        heard.append(event)

    old.on(OrderPaid, service=name)(hear)
    new.on(OrderPaid, service=name)(hear)
    new.on(OrderLost, service=name)(hear)

    async with connect(nats_url, service=name) as shop, consuming(new, nats_url):
        async with consuming(old, nats_url):
            await shop.emit(OrderLost(order_id=1))
            await eventually(lambda: heard == [OrderLost(order_id=1)])
        await shop.emit(OrderLost(order_id=2))
        await eventually(lambda: heard[1:] == [OrderLost(order_id=2)])


async def test_what_others_took_away_or_nobody_handles_any_more_is_put_right(
    nats_url: str, bus: Bus
) -> None:
    events = Events(a_name(), limits=replace(QUICK, look_seconds=0.05))

    @events.on(OrderPaid)
    async def hear(event: OrderPaid) -> None: ...

    events.off(OrderLost)
    async with consuming(events, nats_url):
        config = (await state_of(bus, events.name))["config"]
        others = ["events.*.order_lost", "events.shop.order_sent"]
        await JetStreamApi(bus).create_consumer("EVENTS", config | {"filter_subjects": others})

        async with asyncio.timeout(SECONDS):
            while (subjects := await subjects_of(bus, events)) == others:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await JetStreamApi(bus).request("CONSUMER.DELETE", "EVENTS", events.name)
            while (again := await subjects_of(bus, events)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    assert subjects == again == ["events.*.order_paid", "events.shop.order_sent"]


async def subjects_of(bus: Bus, events: Events) -> list[str] | None:
    found = await JetStreamApi(bus).consumer_info("EVENTS", events.name)
    return None if found is None else list(found.config["filter_subjects"])


async def test_a_version_that_nobody_knows_is_a_failed_event_in_the_end(
    nats_url: str, bus: Bus
) -> None:
    events = Events(a_name(), limits=replace(QUICK, max_deliveries=2))
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            raise AssertionError("it is another version")

        async with failures_of(events, nats_url) as failures, consuming(events, nats_url):
            await shop.emit(OrderPaidV2(order_id=1, total="2"))
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()

    assert failure.reason == "NoHandler: no handler for order_paid, version 2"
    assert failure.deliveries == 2


async def test_a_consumer_follows_its_handlers(nats_url: str, bus: Bus) -> None:
    name = a_name()

    async def ignore(event: BaseModel) -> None:
        return

    before, after = Events(f"{name}-mailer", limits=QUICK), Events(f"{name}-mailer", limits=QUICK)
    before.on(OrderPaid)(ignore)
    after.on(OrderPaid)(ignore)
    after.on(OrderPaidV2)(ignore)
    after.on(OrderPaid, service=name)(ignore)
    after.on(OrderLost, service=name)(ignore)

    filters = []
    for events in (before, before, after):
        async with consuming(events, nats_url):
            filters.append((await state_of(bus, events.name))["config"]["filter_subjects"])

    assert filters[0] == filters[1] == ["events.*.order_paid"]
    assert filters[2] == ["events.*.order_paid", f"events.{name}.order_lost"]
