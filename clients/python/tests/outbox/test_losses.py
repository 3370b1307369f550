"""What the bus loses of what was sent goes out again, and nothing that is known to be handled."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from clients.python.tests.outbox.builders import (
    a_counter,
    always,
    count,
    rows,
    stored,
    until,
    until_stored,
)
from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.work_queue import open_work_queue
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.outbox.batch import relay_batch
from hubbub_client.outbox.limits import RelayLimits
from hubbub_client.outbox.losses import WatchedStream, note_losses, watch_for_losses
from hubbub_client.outbox.relay import run_relay
from hubbub_client.sql.database import DatabaseUnavailable, Sessions, transaction
from shared.jetstream.stream_configs import NOTIFY_CONSUMER
from shared.jetstream.streams import bootstrap
from shared.runtime.process import running
from tests.fixtures.nats import NatsServer
from tests.shared.jetstream.builders import js_api
from tests.shared.sql.counting.use_cases import count_up


@pytest.fixture
async def own_publisher(own_bus: Bus) -> AsyncGenerator[Publisher]:
    async with start_publisher(own_bus) as publisher:
        yield publisher


def events(bus: Bus) -> WatchedStream:
    return WatchedStream(bus, "EVENTS", NOTIFY_CONSUMER)


async def acknowledged_floor(bus: Bus) -> int:
    consumer = await JetStreamApi(bus).consumer_info("EVENTS", NOTIFY_CONSUMER)
    assert consumer is not None
    return consumer.ack_floor


async def send_again_what_is_lost(sessions: Sessions, to: WatchedStream) -> int:
    """Return how many go out again."""
    await note_losses(sessions, to)
    return await outbox_rows.unsend_lost(sessions, to.stream, limit=1000)


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
        if loss == "what came after a backup":
            server.restore()
        else:
            server.lose_store()
        await bus.until_connected()
    await bootstrap(bus)


@pytest.mark.parametrize("loss", ["the stream", "the whole store", "what came after a backup"])
async def test_what_was_not_handled_when_it_was_lost_goes_out_again_and_nothing_else(
    server: NatsServer, own_bus: Bus, own_publisher: Publisher, sessions: Sessions, loss: str
) -> None:
    name = await a_counter(sessions)
    await send_again_what_is_lost(sessions, events(own_bus))
    server.back_up()
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


@pytest.mark.parametrize("others", [3, 300])
async def test_what_was_rolled_back_goes_out_again_though_others_have_its_places_already(
    server: NatsServer, own_bus: Bus, own_publisher: Publisher, sessions: Sessions, others: int
) -> None:
    name = await a_counter(sessions)
    all_at_once = RelayLimits(batch_rows=1000)
    await send_again_what_is_lost(sessions, events(own_bus))
    server.back_up()
    await own_bus.until_connected()
    await count(sessions, name, times=2)
    await relay_batch(sessions, own_publisher)
    await lose("what came after a backup", server, own_bus)
    async with transaction(sessions) as db:
        for _ in range(others):
            await count_up(db, name)
    await relay_batch(sessions, own_publisher, limits=all_at_once)
    after = list(range(3, others + 3))
    assert await stored(own_bus, name) == after

    assert await send_again_what_is_lost(sessions, events(own_bus)) == others + 2
    await relay_batch(sessions, own_publisher, limits=all_at_once)

    assert await stored(own_bus, name) == [*after, 1, 2]
    assert await send_again_what_is_lost(sessions, events(own_bus)) == 0


async def test_the_relay_sends_again_by_itself_what_its_stream_was_noted_to_have_lost(
    server: NatsServer, own_bus: Bus, own_publisher: Publisher, sessions: Sessions
) -> None:
    name = await a_counter(sessions)
    limits = RelayLimits(lost_seconds=0.05, lost_rows=2, idle_seconds=0.05)
    relay = run_relay(
        sessions, own_publisher, asyncio.Event(), may_prune=always, stream="EVENTS", limits=limits
    )
    watch = watch_for_losses(sessions, events(own_bus), look_seconds=0.05)
    async with running(lambda: relay, lambda: watch):
        await count(sessions, name, times=5)
        await until_stored(own_bus, name, [1, 2, 3, 4, 5])

        await lose("the whole store", server, own_bus)

        await until_stored(own_bus, name, [1, 2, 3, 4, 5])


async def test_a_loss_is_noted_at_once_and_made_good_in_small_transactions(
    server: NatsServer, own_bus: Bus, own_publisher: Publisher, sessions: Sessions
) -> None:
    name = await a_counter(sessions)
    await note_losses(sessions, events(own_bus))
    await count(sessions, name, times=8)
    await relay_batch(sessions, own_publisher)
    await handle(own_bus, 3)
    await note_losses(sessions, events(own_bus))
    before = await rows(sessions, name)
    await lose("the stream", server, own_bus)

    assert [await note_losses(sessions, events(own_bus)) for _ in range(2)] == [True, False]
    unsent = []
    for _ in range(4):
        unsent.append(await outbox_rows.unsend_lost(sessions, "EVENTS", limit=2))
        assert not await note_losses(sessions, events(own_bus))

    assert unsent == [2, 2, 1, 0]
    after = await rows(sessions, name)
    assert [row.sequence for row in after] == [1, 2, 3, None, None, None, None, None]
    assert [row.sent_at for row in after[:3]] == [row.sent_at for row in before[:3]]


async def test_what_was_published_while_a_loss_was_noted_goes_out_again(
    server: NatsServer, own_bus: Bus, own_publisher: Publisher, sessions: Sessions
) -> None:
    """It may lie in either of the two streams."""
    name = await a_counter(sessions)
    await note_losses(sessions, events(own_bus))
    await count(sessions, name)
    due = await outbox_rows.oldest_unsent(sessions, 10)
    await lose("the stream", server, own_bus)
    assert await note_losses(sessions, events(own_bus))

    sent = {row.position: 1 for row in due.rows}
    await outbox_rows.mark(sessions, life=due.life, sent=sent, poisoned={})

    assert await outbox_rows.unsend_lost(sessions, "EVENTS", limit=10) == 1


async def test_a_bus_that_does_not_say_what_it_has_holds_up_no_relaying(
    own_bus: Bus, own_publisher: Publisher, sessions: Sessions
) -> None:
    name = await a_counter(sessions)
    silent = SilentBus(own_bus)
    relay = run_relay(sessions, own_publisher, asyncio.Event(), may_prune=always, stream="EVENTS")
    watch = watch_for_losses(sessions, events(silent))
    async with running(lambda: relay, lambda: watch):
        async with asyncio.timeout(20):
            await silent.asked.wait()

        await count(sessions, name)

        await until_stored(own_bus, name, [1])


@pytest.mark.parametrize("away", [BusUnavailable("no answer"), DatabaseUnavailable()])
async def test_what_is_away_ends_no_watch(
    own_bus: Bus, sessions: Sessions, away: Exception
) -> None:
    silent = SilentBus(own_bus, away)
    watch = watch_for_losses(sessions, events(silent), look_seconds=0.01)
    async with running(lambda: watch), asyncio.timeout(20):
        for _ in range(3):
            await silent.asked.wait()
            silent.asked.clear()


class SilentBus(Bus):
    """It says nothing of its streams, or what is wrong."""

    def __init__(self, bus: Bus, wrong: Exception | None = None) -> None:
        vars(self).update(vars(bus))
        self.asked = asyncio.Event()
        self._wrong = wrong

    async def request(self, *_: object, **__: object) -> bytes:
        self.asked.set()
        if self._wrong is not None:
            raise self._wrong
        await asyncio.Event().wait()
        raise AssertionError
