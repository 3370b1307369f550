"""When the relay hears that there is something to do."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from clients.python.tests.outbox.builders import a_counter, count
from clients.python.tests.outbox.shop import (
    InvoicePaid,
    InvoiceRow,
    a_shop,
    commit_with,
    synchronous,
)
from hubbub_client.outbox import append
from hubbub_client.outbox.wake import wake_after_commit
from hubbub_client.sql.database import Sessions, database_url, transaction
from tests.shared.sql.counting.tables import CounterRow
from tests.shared.sql.counting.use_cases import count_up


async def test_a_commit_with_a_message_wakes(sessions: Sessions) -> None:
    wake = wake_after_commit(sessions)
    name = await a_counter(sessions)

    async with transaction(sessions) as session:
        await count_up(session, name)
        assert not wake.is_set()

    assert wake.is_set()


async def test_a_commit_without_a_message_does_not_wake(sessions: Sessions) -> None:
    wake = wake_after_commit(sessions)

    async with transaction(sessions) as session:
        session.add(CounterRow(name="quiet", value=0))

    assert not wake.is_set()


async def test_a_savepoint_does_not_wake_but_the_commit_after_it_does(sessions: Sessions) -> None:
    wake = wake_after_commit(sessions)
    name = await a_counter(sessions)

    async with transaction(sessions) as session:
        async with session.begin_nested():
            await count_up(session, name)
        assert not wake.is_set()

    assert wake.is_set()


async def test_another_database_does_not_wake(sessions: Sessions, other_sessions: Sessions) -> None:
    wake = wake_after_commit(sessions)
    wake_after_commit(other_sessions)
    name = await a_counter(sessions)

    await count(other_sessions, name)

    assert not wake.is_set()


async def test_a_commit_of_a_synchronous_session_wakes_from_its_thread(database_url: str) -> None:
    async with a_shop(database_url), synchronous(database_url) as sessions:
        wake = wake_after_commit(sessions)
        commit = commit_with(sessions)

        await commit(lambda session: session.add(InvoiceRow(id=1)))
        await asyncio.sleep(0)
        assert not wake.is_set()
        await commit(lambda session: append(session, InvoicePaid(invoice_id=1)))

        async with asyncio.timeout(20):
            await wake.wait()


async def test_a_commit_in_another_event_loop_wakes_from_its_thread(sqlite_url: str) -> None:
    async with a_shop(sqlite_url):
        sessions = async_sessionmaker(create_async_engine(database_url(sqlite_url)))
        wake = wake_after_commit(sessions)

        async def pay() -> None:
            async with sessions.begin() as session:
                append(session, InvoicePaid(invoice_id=1))
            await session.bind.dispose()  # type: ignore[union-attr]

        await asyncio.to_thread(asyncio.run, pay())

        async with asyncio.timeout(20):
            await wake.wait()


class RoutingSession(Session):
    """As of an application with several databases."""


class RoutingAsyncSession(AsyncSession):
    sync_session_class = RoutingSession


@pytest.mark.parametrize(
    "options", [{"sync_session_class": RoutingSession}, {"class_": RoutingAsyncSession}]
)
async def test_sessions_keep_the_class_that_they_have(
    options: dict[str, Any], sqlite_url: str
) -> None:
    async with a_shop(sqlite_url) as engine:
        sessions = async_sessionmaker(engine, info={"tenant": 1}, **options)
        wake = wake_after_commit(sessions)
        async with sessions.begin() as session:
            assert type(session.sync_session) is RoutingSession
            assert session.info["tenant"] == 1
            append(session, InvoicePaid(invoice_id=1))

        async with asyncio.timeout(20):
            await wake.wait()
