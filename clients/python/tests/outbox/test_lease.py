"""One holder at a time, on either database."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession

from clients.python.tests.outbox.builders import until
from hubbub_client.outbox.lease import Lease
from hubbub_client.outbox.table import MAX_LEASE_SECONDS, RELAY, OutboxLease
from hubbub_client.sql.database import Sessions, database_now, transaction

LONG_SECONDS = 300
SHORT_SECONDS = 1


@pytest.mark.parametrize(("ahead_seconds", "is_taken"), [(200, False), (400, True)])
async def test_one_that_a_wrong_clock_has_written_keeps_nobody_out_for_long(
    ahead_seconds: int, is_taken: bool, sessions: Sessions
) -> None:
    first, second = Lease(sessions, seconds=SHORT_SECONDS), Lease(sessions, seconds=SHORT_SECONDS)
    assert await first.hold()
    until = datetime.now(UTC) + timedelta(seconds=ahead_seconds)
    async with transaction(sessions) as session:
        await session.execute(update(OutboxLease).values(expires_at=until))

    assert await second.hold() == is_taken
    assert second.others_until == (None if is_taken else until)


async def test_of_many_that_ask_together_one_gets_it(sessions: Sessions) -> None:
    leases = [Lease(sessions, seconds=LONG_SECONDS) for _ in range(8)]

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(lease.hold()) for lease in leases]

    assert sum(task.result() for task in asked) == 1
    assert [lease.remaining_seconds > 0 for lease in leases] == [task.result() for task in asked]


async def test_one_that_is_taken_for_the_longest_time_while_another_asks_is_not_taken_from_it(
    sessions: Sessions, other_sessions: Sessions
) -> None:
    lease = Lease(sessions, seconds=SHORT_SECONDS)
    assert await lease.hold()
    await lease.release()

    async with asyncio.TaskGroup() as group, transaction(other_sessions) as others:
        row = await others.get_one(OutboxLease, RELAY, with_for_update=True)
        asked = group.create_task(lease.hold())
        await until(partial(_somebody_waits, others))
        row.owner = "another"
        row.expires_at = await database_now(others) + timedelta(seconds=MAX_LEASE_SECONDS)
        until_then = row.expires_at

    assert not asked.result()
    assert lease.others_until == until_then


async def _somebody_waits(session: AsyncSession) -> bool:
    if session.get_bind().dialect.name == "sqlite":
        return True  # it has one writer, who asks for the time once it is its turn
    waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    return bool(await session.scalar(waiting))


async def test_one_that_is_released_is_free_at_once(sessions: Sessions) -> None:
    first, second = Lease(sessions, seconds=LONG_SECONDS), Lease(sessions, seconds=LONG_SECONDS)
    assert await first.hold()
    assert not await second.hold()

    await first.release()

    assert first.remaining_seconds <= 0
    assert await second.hold()


async def test_releasing_what_another_has_taken_changes_nothing(sessions: Sessions) -> None:
    first, second = Lease(sessions, seconds=LONG_SECONDS), Lease(sessions, seconds=LONG_SECONDS)
    assert await first.hold()

    await second.release()

    assert not await second.hold()


async def test_one_that_is_not_renewed_expires(sessions: Sessions) -> None:
    dead, heir = Lease(sessions, seconds=SHORT_SECONDS), Lease(sessions, seconds=LONG_SECONDS)
    assert await dead.hold()

    was_free = await heir.hold()
    assert not was_free or dead.remaining_seconds <= 0  # a machine may stand still until then
    await until(heir.hold)

    assert dead.remaining_seconds <= 0


async def test_one_that_is_renewed_stays(sessions: Sessions) -> None:
    seconds = 4  # more than the busiest machine lets a renewal wait
    holder, other = Lease(sessions, seconds=seconds), Lease(sessions, seconds=seconds)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds + 1

    while loop.time() < end:
        assert await holder.hold()
        assert not await other.hold()
        await asyncio.sleep(0.25)


async def test_a_holder_that_was_replaced_learns_of_it(sessions: Sessions) -> None:
    slept, heir = Lease(sessions, seconds=SHORT_SECONDS), Lease(sessions, seconds=LONG_SECONDS)
    assert await slept.hold()
    await until(heir.hold)

    assert not await slept.hold()
