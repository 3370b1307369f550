"""What a use case puts into the outbox."""

import asyncio

import pytest

from clients.python.tests.outbox.builders import a_counter, count, rows
from hubbub_client.outbox import append_message
from hubbub_client.sql.database import Sessions, transaction
from tests.shared.sql.counting.use_cases import count_up

WRITERS = 20


async def test_concurrent_writers_number_their_messages_in_the_order_of_their_commits(
    sessions: Sessions,
) -> None:
    name = await a_counter(sessions)

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(count(sessions, name))

    assert [int(row.payload) for row in await rows(sessions, name)] == list(range(1, WRITERS + 1))


async def test_a_change_that_fails_leaves_no_message(sessions: Sessions) -> None:
    name = await a_counter(sessions)

    async def count_and_fail() -> None:
        async with transaction(sessions) as session:
            await count_up(session, name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await count_and_fail()

    assert await rows(sessions, name) == []


@pytest.mark.parametrize(
    ("subject", "message_id", "aggregate"),
    [
        ("", "1", "a"),
        ("events.", "1", "a"),
        ("events..posts", "1", "a"),
        ("events.posts.*", "1", "a"),
        ("events.posts.>", "1", "a"),
        ("events.posts liked", "1", "a"),
        ("events.posts", "", "a"),
        ("events.posts", "1\r\nNats-Rollup: all", "a"),
        ("events.posts", "1" * 256, "a"),
        ("events.posts", "1", "a" * 256),
    ],
)
async def test_a_message_that_no_bus_could_take_is_refused_before_it_is_committed(
    sessions: Sessions, subject: str, message_id: str, aggregate: str
) -> None:
    async with transaction(sessions) as session:
        with pytest.raises(ValueError, match="message"):
            append_message(
                session, subject=subject, aggregate=aggregate, message_id=message_id, payload=b""
            )
