"""What the bus loses of what was sent goes out again, and nothing that is known to be handled."""

import asyncio
import shutil
from collections.abc import AsyncGenerator

import pytest

from gateway.streams.work_queue import open_work_queue
from shared.jetstream.api import JetStreamApi
from shared.jetstream.publisher import Publisher, start_publisher
from shared.jetstream.streams import NOTIFY_CONSUMER, bootstrap
from shared.nats.client import Bus, connect_bus
from shared.runtime.process import running
from shared.sql.database import Sessions
from shared.sql.outbox.losses import Destination, send_again_what_is_lost
from shared.sql.outbox.relay import RelayLimits, relay_batch, run_relay
from tests.fixtures.nats import NatsServer, StartServer
from tests.shared.jetstream.builders import js_api
from tests.shared.sql.outbox.builders import a_counter, count, stored, until, until_stored


@pytest.fixture
def server(nats_server: StartServer) -> NatsServer:
    return nats_server()


@pytest.fixture
async def own_bus(server: NatsServer) -> AsyncGenerator[Bus]:
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        yield bus


@pytest.fixture
async def own_publisher(own_bus: Bus) -> AsyncGenerator[Publisher]:
    async with start_publisher(own_bus) as publisher:
        yield publisher


def events(bus: Bus) -> Destination:
    return Destination(bus, "EVENTS", NOTIFY_CONSUMER)


async def acknowledged_floor(bus: Bus) -> int:
    consumer = await JetStreamApi(bus).consumer_info("EVENTS", NOTIFY_CONSUMER)
    assert consumer is not None
    return consumer.ack_floor


async def handle(bus: Bus, jobs: int) -> None:
    """Do as many jobs of the consumer, and wait until that is known."""
    before = await acknowledged_floor(bus)
    async with open_work_queue(bus, "EVENTS", NOTIFY_CONSUMER) as queue:
        done = 0
        while done < jobs:
            for job in await queue.take(jobs - done):
                job.ack()
                done += 1

    async def is_known() -> bool:
        return await acknowledged_floor(bus) == before + jobs

    await until(is_known)


async def lose(loss: str, server: NatsServer, bus: Bus) -> None:
    if loss == "the stream":
        await js_api(bus, "STREAM.DELETE.EVENTS")
    else:
        server.stop()
        shutil.rmtree(server.store)
        if loss == "what came after a backup":
            shutil.copytree(server.store.with_name("backup"), server.store)
        server.start()
        await bus.until_connected()
    await bootstrap(bus)


@pytest.mark.parametrize("loss", ["the stream", "the whole store", "what came after a backup"])
async def test_what_was_not_handled_when_it_was_lost_goes_out_again_and_nothing_else(
    server: NatsServer, own_bus: Bus, own_publisher: Publisher, sessions: Sessions, loss: str
) -> None:
    name = await a_counter(sessions)
    await send_again_what_is_lost(sessions, events(own_bus))
    server.stop()
    shutil.copytree(server.store, server.store.with_name("backup"))
    server.start()
    await own_bus.until_connected()
    await count(sessions, name, times=5)
    await relay_batch(sessions, own_publisher)
    await handle(own_bus, 2)
    assert await send_again_what_is_lost(sessions, events(own_bus)) == 0

    await lose(loss, server, own_bus)
    assert await send_again_what_is_lost(sessions, events(own_bus)) == 3
    await relay_batch(sessions, own_publisher)

    assert await stored(own_bus, name) == [3, 4, 5]
    await handle(own_bus, 3)
    assert await send_again_what_is_lost(sessions, events(own_bus)) == 0
    await lose("the stream", server, own_bus)
    assert await send_again_what_is_lost(sessions, events(own_bus)) == 0


async def test_the_relay_notices_by_itself_that_its_stream_was_lost(
    server: NatsServer, own_bus: Bus, own_publisher: Publisher, sessions: Sessions
) -> None:
    name = await a_counter(sessions)
    limits = RelayLimits(look_seconds=0.05, idle_seconds=0.05)
    relay = run_relay(
        sessions, own_publisher, asyncio.Event(), destination=events(own_bus), limits=limits
    )
    async with running(lambda: relay):
        await count(sessions, name, times=3)
        await until_stored(own_bus, name, [1, 2, 3])

        await lose("the whole store", server, own_bus)

        await until_stored(own_bus, name, [1, 2, 3])
