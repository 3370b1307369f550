"""What is deleted or lost of streams and consumer is made anew, on a server of the test's own."""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from uuid import uuid4

import pytest

from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.jetstream.work_queue import open_work_queue
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.nats.errors import BusUnavailable
from shared.jetstream.stream_configs import NOTIFY_CONSUMER, STREAMS, StreamSettings
from shared.jetstream.streams import KeepingLimits, bootstrap, keep_streams
from shared.runtime.process import running
from tests.fixtures.nats import NatsServer, StartServer
from tests.shared.jetstream.builders import js_api

SETTINGS = StreamSettings(retry_seconds=0.02)
AT_ONCE = KeepingLimits(look_seconds=0.02, note_seconds=0)


@pytest.fixture
def server(nats_server: StartServer) -> NatsServer:
    return nats_server()


@pytest.fixture
async def kept(server: NatsServer) -> AsyncGenerator[Bus]:
    """A bus whose streams are looked after."""
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus, SETTINGS)
        async with running(lambda: keep_streams(bus, SETTINGS, limits=AT_ONCE)):
            yield bus


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 only the server knows
            await asyncio.sleep(0.02)


async def epochs(bus: Bus) -> dict[str, str]:
    """Of the streams that are there."""
    found = {}
    for stream in STREAMS:
        try:
            found[stream] = (await StreamReader(bus, stream).state()).epoch
        except BusUnavailable:
            continue
    return found


async def has_consumer(bus: Bus) -> bool:
    try:
        answer = await bus.request("$JS.API.CONSUMER.INFO.EVENTS.notify", b"", timeout_seconds=20)
    except BusUnavailable:
        return False
    return "error" not in json.loads(answer)


async def until_floor_is_noted(bus: Bus, floor: int) -> None:
    async def is_noted() -> bool:
        config = (await js_api(bus, "STREAM.INFO.EVENTS"))["config"]
        return bool(config["metadata"].get("notify_floor") == str(floor))

    await until(is_noted)


async def work(bus: Bus, *payloads: bytes) -> list[bytes]:
    """Tell of as many events, do as many jobs, and return what those were."""
    done: list[bytes] = []
    async with (
        start_publisher(bus) as publisher,
        open_work_queue(bus, "EVENTS", NOTIFY_CONSUMER) as queue,
    ):
        for payload in payloads:
            await publisher.publish("events.test.x", payload, message_id=str(uuid4()))
        async with asyncio.timeout(20):
            while len(done) < len(payloads):
                for job in await queue.take(10):
                    done.append(job.payload)
                    job.ack()
    return done


async def test_a_consumer_that_is_deleted_is_made_anew_and_gives_out_nothing_twice(
    kept: Bus,
) -> None:
    await work(kept, b"1", b"2", b"3")
    await until_floor_is_noted(kept, 3)

    for number in (b"4", b"5"):
        await js_api(kept, "CONSUMER.DELETE.EVENTS.notify")
        await until(lambda: has_consumer(kept))
        assert await work(kept, number) == [number]
        await until_floor_is_noted(kept, int(number))


async def test_a_stream_that_is_deleted_is_made_anew_with_its_consumer_and_others_stay(
    kept: Bus,
) -> None:
    before = await epochs(kept)
    await work(kept, b"1")
    await until_floor_is_noted(kept, 1)

    await js_api(kept, "STREAM.DELETE.EVENTS")
    await until(lambda: has_consumer(kept))

    after = await epochs(kept)
    assert {stream for stream in STREAMS if before[stream] != after[stream]} == {"EVENTS"}
    assert await work(kept, b"2") == [b"2"]


async def test_a_store_that_is_emptied_is_filled_with_streams_again(
    kept: Bus, server: NatsServer
) -> None:
    before = await epochs(kept)
    server.stop()
    shutil.rmtree(server.store)
    server.start()

    await until(lambda: has_consumer(kept))

    after = await epochs(kept)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
