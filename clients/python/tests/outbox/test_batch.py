"""One step of the relay: what leaves, in which order, and what is marked."""

import asyncio

import pytest
from sqlalchemy import update

from clients.python.tests.outbox.builders import (
    SpiedPublisher,
    StuckPublisher,
    a_counter,
    count,
    rows,
    stored,
)
from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.outbox import append_message
from hubbub_client.outbox.batch import relay_batch
from hubbub_client.outbox.limits import RelayLimits
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import DatabaseLimits, Sessions, connect_database, transaction
from shared.sql.migrations import migrate
from tests.shared.sql.counting.use_cases import count_up

HASTY = RelayLimits(publish_seconds=3)


class PowerCut(BaseException):
    """The process is gone."""


class DoomedPublisher(Publisher):
    """The bus has stored the message, and then the process dies."""

    async def publish(self, *arguments: object, **options: object) -> PubAck:
        await super().publish(*arguments, **options)  # type: ignore[arg-type]
        raise PowerCut


async def test_messages_of_one_aggregate_leave_one_by_one_and_of_many_side_by_side(
    sessions: Sessions, bus: Bus
) -> None:
    names = [await a_counter(sessions) for _ in range(4)]
    for name in names:
        await count(sessions, name, times=5)
    publisher = SpiedPublisher(bus)

    outcome = await relay_batch(sessions, publisher)

    assert (outcome.read, len(outcome.sent), outcome.left) == (20, 20, 0)
    assert publisher.most_of_one_subject == 1
    assert publisher.most == 4
    for name in names:
        assert await stored(bus, name) == [1, 2, 3, 4, 5]


async def test_what_was_sent_is_not_sent_again(sessions: Sessions, bus: Bus) -> None:
    name = await a_counter(sessions)
    await count(sessions, name)
    publisher = SpiedPublisher(bus)

    await relay_batch(sessions, publisher)
    again = await relay_batch(sessions, publisher)

    assert again.read == 0
    assert len(publisher.published) == 1


async def test_a_crash_between_storing_and_marking_leaves_no_second_message(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name)

    with pytest.raises(BaseExceptionGroup):
        await relay_batch(sessions, DoomedPublisher(bus))
    [unmarked] = await rows(sessions, name)
    await relay_batch(sessions, publisher)

    assert unmarked.sent_at is None
    assert await stored(bus, name) == [1]
    [marked] = await rows(sessions, name)
    assert marked.sent_at is not None


async def test_what_was_stored_is_marked_even_when_the_rest_is_cancelled(
    sessions: Sessions, bus: Bus
) -> None:
    quick, stuck = await a_counter(sessions), await a_counter(sessions)
    await count(sessions, quick)
    await count(sessions, stuck)
    publisher = StuckPublisher(bus, stuck=stuck)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(relay_batch(sessions, publisher))
        async with asyncio.timeout(10):
            await publisher.reached.wait()
            await publisher.has_published.wait()
        task.cancel()

    assert [row.sent_at is not None for row in await rows(sessions, quick)] == [True]
    assert [row.sent_at is not None for row in await rows(sessions, stuck)] == [False]


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)  # SQLite's locks time out
async def test_who_is_cancelled_waits_only_so_long_for_the_database(
    sessions: Sessions, other_sessions: Sessions, bus: Bus
) -> None:
    quick, stuck = await a_counter(sessions), await a_counter(sessions)
    await count(sessions, quick)
    await count(sessions, stuck)
    publisher = StuckPublisher(bus, stuck=stuck)
    limits = RelayLimits(stop_seconds=0.1)

    async with transaction(other_sessions) as others, asyncio.TaskGroup() as group:
        task = group.create_task(relay_batch(sessions, publisher, limits=limits))
        async with asyncio.timeout(10):
            await publisher.reached.wait()
            await publisher.has_published.wait()
        await others.execute(update(OutboxRow).values(error=None))  # a lock on all of them
        task.cancel()
        async with asyncio.timeout(DatabaseLimits().lock_seconds / 2):
            await asyncio.wait([task])

    assert [row.sent_at for row in await rows(sessions, quick)] == [None]


async def test_a_message_that_the_bus_will_never_take_is_set_aside_and_later_ones_go_on(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name)
    async with transaction(sessions) as session:
        append_message(
            session,
            subject=f"events.test.{name}",
            aggregate=f"counter:{name}",
            message_id=f"{name}:poison",
            payload=bytes(bus.max_payload + 1),
        )
    await count(sessions, name)

    outcome = await relay_batch(sessions, publisher)
    again = await relay_batch(sessions, publisher)

    assert (len(outcome.sent), len(outcome.poisoned), outcome.left) == (2, 1, 0)
    assert again.read == 0
    assert await stored(bus, name) == [1, 2]
    [_, poison, _] = await rows(sessions, name)
    assert poison.poisoned_at is not None
    assert poison.sent_at is None
    assert poison.error is not None
    assert "10054" in poison.error


async def test_no_answer_holds_up_its_own_aggregate_alone_and_is_no_poison(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name, other = await a_counter(sessions), await a_counter(sessions)
    async with transaction(sessions) as session:
        for number in (1, 2):
            append_message(
                session,
                subject=f"nowhere.{name}",  # no stream takes it: 503
                aggregate=f"counter:{name}",
                message_id=f"{name}:{number}",
                payload=b"",
            )
    await count(sessions, other, times=2)

    outcome = await relay_batch(sessions, publisher, limits=HASTY)

    assert outcome.held_up.keys() == {f"counter:{name}"}
    assert (len(outcome.sent), len(outcome.poisoned), outcome.left) == (2, 0, 2)
    assert await stored(bus, other) == [1, 2]
    assert [(row.sent_at, row.poisoned_at) for row in await rows(sessions, name)] == [
        (None, None)
    ] * 2


async def test_one_that_got_no_answer_is_not_overtaken(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name, times=3)

    class OnceAwayPublisher(Publisher):
        away = True

        async def publish(self, *arguments: object, **options: object) -> PubAck:
            if self.away:
                self.away = False
                raise BusUnavailable("no answer")
            return await super().publish(*arguments, **options)  # type: ignore[arg-type]

    outcome = await relay_batch(sessions, OnceAwayPublisher(bus))
    before = await stored(bus, name)
    await relay_batch(sessions, publisher)

    assert (outcome.held_up, outcome.left) == ({f"counter:{name}": "no answer"}, 3)
    assert before == []
    assert await stored(bus, name) == [1, 2, 3]


async def test_a_bug_holds_up_its_own_aggregate_alone(sessions: Sessions, bus: Bus) -> None:
    name, other = await a_counter(sessions), await a_counter(sessions)
    await count(sessions, name)
    await count(sessions, other, times=2)

    class BuggyPublisher(Publisher):
        async def publish(self, subject: str, *arguments: object, **options: object) -> PubAck:
            if name in subject:
                raise ZeroDivisionError
            return await super().publish(subject, *arguments, **options)  # type: ignore[arg-type]

    outcome = await relay_batch(sessions, BuggyPublisher(bus))

    assert (len(outcome.held_up), len(outcome.sent), outcome.left) == (1, 2, 1)


async def test_a_batch_whose_time_is_over_starts_nothing_more(sessions: Sessions, bus: Bus) -> None:
    name = await a_counter(sessions)
    await count(sessions, name, times=2)

    outcome = await relay_batch(sessions, SpiedPublisher(bus), start_seconds=0)

    assert (outcome.sent, outcome.left, outcome.held_up) == ({}, 2, {})
    assert outcome.out_of_time


async def test_a_batch_is_bounded_and_the_oldest_go_first(
    sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name, times=5)

    await relay_batch(sessions, publisher, limits=RelayLimits(batch_rows=2))

    assert await stored(bus, name) == [1, 2]


async def test_changes_are_committed_while_the_bus_lets_the_relay_wait(
    migrated_url: str, bus: Bus
) -> None:
    limits = DatabaseLimits(lock_seconds=1, pool_connections=2, pool_wait_seconds=1)
    async with connect_database(migrated_url, limits=limits) as sessions:
        name = await a_counter(sessions)
        await count(sessions, name)
        publisher = StuckPublisher(bus)
        async with asyncio.TaskGroup() as group:
            relaying = group.create_task(relay_batch(sessions, publisher))
            await publisher.reached.wait()
            await count(sessions, name, times=3)
            publisher.gate.set()

    assert relaying.result().read == 1


async def test_a_row_that_becomes_visible_after_a_later_one_is_found(
    postgres_url: str, bus: Bus, publisher: Publisher
) -> None:
    """Places are given before the commit; SQLite's one writer makes it impossible there."""
    await migrate(postgres_url, "tests.shared.sql.counting")
    async with connect_database(postgres_url) as sessions:
        slow, quick = await a_counter(sessions), await a_counter(sessions)
        async with transaction(sessions) as session:
            await count_up(session, slow)
            await session.flush()
            await count(sessions, quick)
            await relay_batch(sessions, publisher)
        await relay_batch(sessions, publisher)

        [slow_row], [quick_row] = await rows(sessions, slow), await rows(sessions, quick)

    assert slow_row.position < quick_row.position
    assert await stored(bus, quick) == [1]
    assert await stored(bus, slow) == [1]
