"""Servers that die, consumers and streams that get lost, orders that are refused: no event is."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from clients.python.tests.bus.consuming import (
    QUICK,
    SECONDS,
    OrderPaid,
    consuming,
    failures_of,
    state_of,
    until_settled,
)
from hubbub_client.bus import ConsumerLimits, Events, connect
from hubbub_client.exchange import Limits
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.waiting import eventually

PATIENT = Limits(deadline_seconds=SECONDS)
USERS = """authorization {{ users: [
    {{ user: root, password: root }}
    {{ user: application, password: secret{permissions} }} ] }}
"""
MAY_ALL = USERS.format(permissions="")
MAY_NOT_TELL = USERS.format(
    permissions=', permissions: { publish: { deny: "events.*.event_failed" } }'
)


NOT_STORED = "failed_event_not_stored consumer='mailer' reason='permissions"


class Mailer:
    """A consumer that counts how often it has handled each order, and how often it could not."""

    def __init__(self, limits: ConsumerLimits = QUICK) -> None:
        self.events = Events("mailer", limits=limits)
        self.handled = Counter[int]()
        self.failed = Counter[int]()
        self.is_broken = False
        self.events.on(OrderPaid)(self._handle)

    async def _handle(self, event: OrderPaid) -> None:
        if self.is_broken:
            self.failed[event.order_id] += 1
            raise OSError("the mail server is away")
        self.handled[event.order_id] += 1


async def test_a_server_that_dies_and_comes_back_gives_out_what_is_left(
    server: NatsServer, own_bus: Bus
) -> None:
    mailer = Mailer()
    async with connect(server.url, limits=PATIENT) as shop, consuming(mailer.events, server.url):
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: mailer.handled[1] > 0)
        server.kill()
        async with asyncio.TaskGroup() as group:
            group.create_task(shop.emit(OrderPaid(order_id=2)))
            server.start()
        await shop.emit(OrderPaid(order_id=3))
        await eventually(lambda: mailer.handled.keys() == {1, 2, 3}, seconds=SECONDS)


async def test_a_lost_consumer_is_made_again_where_it_was_noted_to_be(
    server: NatsServer, own_bus: Bus
) -> None:
    forever = replace(QUICK, look_seconds=0.05, first_pause_seconds=600, longest_pause_seconds=600)
    mailer = Mailer(forever)
    async with connect(server.url) as shop, consuming(mailer.events, server.url):
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: mailer.handled[1] == 1)
        mailer.is_broken = True
        await shop.emit(OrderPaid(order_id=2))
        await eventually(lambda: mailer.failed[2] == 1)  # it waits for its next try
        mailer.is_broken = False

        await delete_consumer(own_bus)
        await shop.emit(OrderPaid(order_id=3))
        await eventually(lambda: {2, 3} <= mailer.handled.keys(), seconds=SECONDS)


async def test_a_lost_consumer_brings_nothing_from_before_its_first_beginning(
    server: NatsServer, own_bus: Bus
) -> None:
    mailer = Mailer()
    async with connect(server.url) as shop:
        await shop.emit(OrderPaid(order_id=1))
        async with consuming(mailer.events, server.url):
            await delete_consumer(own_bus)
            await shop.emit(OrderPaid(order_id=2))
            await eventually(lambda: mailer.handled[2] == 1, seconds=SECONDS)

    assert mailer.handled == {2: 1}


async def test_a_consumer_begins_anew_in_a_stream_that_was_made_again(
    server: NatsServer, own_bus: Bus
) -> None:
    mailer = Mailer()
    async with connect(server.url, limits=PATIENT) as shop, consuming(mailer.events, server.url):
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: mailer.handled[1] == 1)
        server.lose_store()
        async with asyncio.TaskGroup() as group:
            group.create_task(shop.emit(OrderPaid(order_id=2)))
            await own_bus.until_connected()
            await bootstrap(own_bus)
        await eventually(lambda: mailer.handled.keys() == {1, 2}, seconds=SECONDS)


async def test_a_consumer_waits_for_a_bus_and_its_streams(nats_server: StartServer) -> None:
    server, mailer = nats_server(), Mailer()
    server.stop()
    async with mailer.events.running(server.url), connect(server.url, limits=PATIENT) as shop:
        server.start()
        async with connect_bus(server.url, name="test") as bus:
            await bus.until_connected()
            await bootstrap(bus)
        async with asyncio.timeout(SECONDS):
            await mailer.events.until_ready()
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: mailer.handled[1] == 1)


async def test_what_failed_is_not_settled_before_that_is_stored_with_its_reason(
    nats_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = nats_server(MAY_NOT_TELL)
    as_root, url = (f"nats://{user}@127.0.0.1:{server.port}" for user in
                    ("root:root", "application:secret"))  # fmt: skip
    mailer = Mailer(replace(QUICK, max_deliveries=1, publish_seconds=0.3))
    mailer.is_broken = True
    async with connect_bus(as_root, name="root") as root:
        await bootstrap(root)
        async with (
            failures_of(mailer.events, as_root) as failures,
            connect(as_root) as shop,
            consuming(mailer.events, url),
        ):
            await shop.emit(OrderPaid(order_id=1))
            async with asyncio.timeout(SECONDS):
                await until_redelivered(root)
            await eventually(lambda: NOT_STORED in caplog.text, seconds=SECONDS)
            assert failures.empty()

            server.reload(MAY_ALL)
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()
                await until_settled(root, "mailer")

    assert failure.subject == "events.application.order_paid"
    assert failure.reason == "OSError: the mail server is away"
    assert failures.empty()
    assert mailer.failed[1] == 1


async def test_a_connection_that_was_closed_for_good_is_followed_by_another(
    nats_server: StartServer,
) -> None:
    server, mailer = nats_server("max_subscriptions: 2"), Mailer()  # a consumer needs three
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        async with consuming(mailer.events, server.url), connect(server.url) as shop:
            await eventually(lambda: "maximum subscriptions" in server.log)
            server.stop()
            server.config.write_text("")
            server.start()
            await bus.until_connected()
            await shop.emit(OrderPaid(order_id=1))
            await eventually(lambda: mailer.handled[1] == 1, seconds=SECONDS)


async def delete_consumer(bus: Bus) -> None:
    await bus.request("$JS.API.CONSUMER.DELETE.EVENTS.mailer", b"", timeout_seconds=SECONDS)


async def until_redelivered(bus: Bus) -> None:
    while (await state_of(bus, "mailer"))["num_redelivered"] == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
