"""The relay as it runs in a service: woken, alone, and through whatever fails around it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import update

from clients.python.tests.outbox.builders import (
    DEADLINE_SECONDS,
    SpiedPublisher,
    StuckPublisher,
    a_counter,
    always,
    count,
    rows,
    stored,
    until,
    until_sent,
    until_stored,
)
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.outbox import append_message
from hubbub_client.outbox.lease import Lease
from hubbub_client.outbox.limits import RelayLimits
from hubbub_client.outbox.relay import run_relay
from hubbub_client.outbox.table import OutboxLease, OutboxRow
from hubbub_client.outbox.wake import wake_after_commit
from hubbub_client.sql.database import Sessions, connect_database, transaction
from shared.jetstream.streams import bootstrap
from shared.runtime.process import running
from shared.sql.migrations import migrate
from shared.sql.outbox_metrics import OutboxMetrics, RelayMetrics
from tests.fixtures.databases import PostgresServer
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually

WRITERS = 20
LONG_SECONDS = 300
NEVER_POLLING = RelayLimits(idle_seconds=LONG_SECONDS, lease_seconds=LONG_SECONDS)
QUICK = RelayLimits(idle_seconds=0.05, lease_seconds=1, publish_seconds=0.5, measure_seconds=0.05)
QUICK_FOR_LONG = replace(QUICK, lease_seconds=LONG_SECONDS)
"""It keeps its lease, however busy the machine is."""
IMMEDIATE_SECONDS = 20
"""Far below any interval of NEVER_POLLING, far above what it takes."""


@asynccontextmanager
async def relaying(
    sessions: Sessions,
    publisher: Publisher,
    limits: RelayLimits = QUICK,
    *,
    metrics: RelayMetrics | None = None,
    may_prune: Callable[[], Awaitable[bool]] = always,
) -> AsyncGenerator[None]:
    wake = wake_after_commit(sessions)
    async with running(
        lambda: run_relay(
            sessions, publisher, wake, may_prune=may_prune, limits=limits, metrics=metrics
        )
    ):
        yield


async def test_a_commit_wakes_the_relay_without_any_polling(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    async with relaying(sessions, publisher, NEVER_POLLING):
        for number in range(1, 4):
            await count(sessions, name)
            await until_stored(bus, name, list(range(1, number + 1)), seconds=IMMEDIATE_SECONDS)


async def test_what_was_committed_before_the_start_is_relayed(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name, times=3)

    async with relaying(sessions, publisher, NEVER_POLLING):
        await until_stored(bus, name, [1, 2, 3], seconds=IMMEDIATE_SECONDS)


async def test_rows_of_another_process_are_found_by_the_idle_poll(
    sessions: Sessions, other_sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    async with relaying(sessions, publisher):
        await count(other_sessions, name)
        await until_stored(bus, name, [1])


async def test_events_of_concurrent_writers_arrive_in_the_order_of_their_commits(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    async with relaying(sessions, publisher, NEVER_POLLING):
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(count(sessions, name, times=3))
        await until_stored(bus, name, list(range(1, 3 * WRITERS + 1)))


async def test_more_than_a_batch_leaves_without_waiting(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name, times=7)
    limits = RelayLimits(batch_rows=2, idle_seconds=LONG_SECONDS, lease_seconds=LONG_SECONDS)

    async with relaying(sessions, publisher, limits):
        await until_stored(bus, name, list(range(1, 8)), seconds=IMMEDIATE_SECONDS)


async def test_of_two_relays_one_publishes(
    sessions: Sessions, other_sessions: Sessions, bus: Bus, other_bus: Bus
) -> None:
    name = await a_counter(sessions)
    first, second = SpiedPublisher(bus), SpiedPublisher(other_bus)

    async with (
        relaying(sessions, first, QUICK_FOR_LONG),
        relaying(other_sessions, second, QUICK_FOR_LONG),
    ):
        for expected in range(1, 31):
            await count(sessions, name)
            await until_stored(bus, name, list(range(1, expected + 1)))
        await eventually(lambda: len(first.published) + len(second.published) == 30)

    assert sorted([len(first.published), len(second.published)]) == [0, 30]


async def test_a_relay_that_stops_hands_over_at_once(
    sessions: Sessions, other_sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name)
    async with relaying(sessions, publisher, NEVER_POLLING):
        await until_sent(sessions, name)

    async with relaying(other_sessions, publisher, NEVER_POLLING):
        await count(other_sessions, name)
        await until_stored(bus, name, [1, 2], seconds=IMMEDIATE_SECONDS)


async def test_another_relay_takes_over_from_one_that_died_but_not_before_its_lease_is_over(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    dead = Lease(sessions, seconds=1)
    assert await dead.hold()
    await count(sessions, name)

    async with relaying(sessions, publisher):
        while dead.remaining_seconds > 0:
            relayed = await stored(bus, name)
            assert not relayed or dead.remaining_seconds <= 0
            await asyncio.sleep(0.01)
        await until_stored(bus, name, [1])


async def test_a_relay_that_lost_its_lease_publishes_nothing_more(
    sessions: Sessions, other_sessions: Sessions, bus: Bus, other_bus: Bus
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name, times=3)
    stuck, heir = StuckPublisher(bus), SpiedPublisher(other_bus)

    async with relaying(sessions, stuck):
        await stuck.reached.wait()
        async with transaction(sessions) as session:
            long_ago = datetime(1970, 1, 1, tzinfo=UTC)
            await session.execute(update(OutboxLease).values(expires_at=long_ago))
        async with relaying(other_sessions, heir, QUICK_FOR_LONG):
            await until_stored(bus, name, [1, 2, 3])
            async with asyncio.timeout(DEADLINE_SECONDS):
                await stuck.gave_up.wait()
            stuck.gate.set()
            await count(other_sessions, name)
            await until_stored(bus, name, [1, 2, 3, 4])
            await eventually(lambda: len(heir.published) == 4)

    assert stuck.published == []
    assert len(heir.published) == 4


async def test_everything_arrives_once_and_in_order_though_the_broker_is_killed(
    sessions: Sessions, nats_server: Callable[[], NatsServer]
) -> None:
    server = nats_server()
    name = await a_counter(sessions)
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        publisher = SpiedPublisher(bus)
        async with relaying(sessions, publisher, QUICK_FOR_LONG):
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(count(sessions, name, times=60))
                await until_stored_at_least(bus, name, 10)
                server.kill()
                await writing
            await count(sessions, name)  # changes are accepted while the broker is away
            async with asyncio.timeout(DEADLINE_SECONDS):
                for _ in range(3):  # longer than the relay waits for one answer
                    publisher.has_given_up.clear()
                    await publisher.has_given_up.wait()
            await count(sessions, name, times=10)
            server.start()
            await bus.until_connected()
            await until_stored(bus, name, list(range(1, 72)))
            await until_sent(sessions, name)


async def until_stored_at_least(bus: Bus, name: str, number: int) -> None:
    async def enough() -> bool:
        return len(await stored(bus, name)) >= number

    await until(enough)


async def test_a_relay_survives_its_database(
    postgres: PostgresServer, postgres_url: str, bus: Bus, publisher: Publisher
) -> None:
    await migrate(postgres_url, "tests.shared.sql.counting")
    async with connect_database(postgres_url) as sessions:
        name = await a_counter(sessions)
        async with relaying(sessions, publisher):
            await count(sessions, name)
            await until_stored(bus, name, [1])
            await asyncio.to_thread(postgres.kill)
            await asyncio.to_thread(postgres.start)
            await count(sessions, name)
            await until_stored(bus, name, [1, 2])


def test_a_message_may_not_wait_as_long_as_the_lease_lasts() -> None:
    with pytest.raises(ValueError, match="lease"):
        RelayLimits(publish_seconds=10, lease_seconds=10)


async def test_sent_rows_are_pruned_after_their_time_in_bounded_batches(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    old, new, waiting = [await a_counter(sessions) for _ in range(3)]
    await count(sessions, old, times=7)
    await count(sessions, new)
    long_ago = datetime.now(UTC) - timedelta(seconds=100)
    async with transaction(sessions) as session:
        of_old = update(OutboxRow).where(OutboxRow.aggregate == f"counter:{old}")
        await session.execute(of_old.values(sent_at=long_ago, created_at=long_ago))
        append_message(
            session,
            subject=f"nowhere.{waiting}",
            aggregate=f"counter:{waiting}",
            message_id=waiting,
            payload=b"",
        )
    limits = RelayLimits(idle_seconds=0.05, publish_seconds=0.1, retention_seconds=50, prune_rows=2)

    async def old_are_gone() -> bool:
        return not await rows(sessions, old)

    async with relaying(sessions, publisher, limits):
        await until(old_are_gone)

    assert len(await rows(sessions, new)) == 1
    assert len(await rows(sessions, waiting)) == 1


async def test_no_sent_row_is_pruned_while_our_clock_is_not_to_be_believed(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name)
    long_ago = datetime.now(UTC) - timedelta(days=2)
    async with transaction(sessions) as session:
        await session.execute(update(OutboxRow).values(sent_at=long_ago))
    asked, is_right = 0, False

    async def may_prune() -> bool:
        nonlocal asked
        asked += 1
        return is_right

    async def is_gone() -> bool:
        return not await rows(sessions, name)

    limits = RelayLimits(idle_seconds=0.01, prune_seconds=0.01)
    async with relaying(sessions, publisher, limits, may_prune=may_prune):
        await eventually(lambda: asked > 5)
        assert not await is_gone()

        is_right = True
        await until(is_gone)


async def test_depth_age_and_counts_are_measured(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    registry = CollectorRegistry()
    name = await a_counter(sessions)
    await count(sessions, name, times=3)
    async with transaction(sessions) as session:
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        await session.execute(update(OutboxRow).values(created_at=an_hour_ago))
        append_message(
            session,
            subject="events.test.poison",
            aggregate="poison",
            message_id=f"{name}:poison",
            payload=bytes(bus.max_payload + 1),
        )
    stuck = StuckPublisher(bus)

    def value(metric: str) -> float | None:
        return registry.get_sample_value(f"hubbub_outbox_{metric}", {"outbox": "test"})

    async def emptied() -> bool:
        return value("depth") == 0

    metrics = OutboxMetrics(registry).of("test")
    async with relaying(sessions, stuck, metrics=metrics):
        await stuck.reached.wait()
        assert value("depth") == 4
        assert value("oldest_age_seconds") == pytest.approx(3600, abs=60)
        stuck.gate.set()
        await until(emptied)

    assert value("oldest_age_seconds") == 0
    assert value("published_total") == 3
    assert value("poisoned_total") == 1
