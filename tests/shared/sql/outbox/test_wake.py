"""When the relay hears that there is something to do."""

from shared.sql.database import Sessions, transaction
from shared.sql.outbox.wake import wake_after_commit
from tests.shared.sql.counting.tables import CounterRow
from tests.shared.sql.counting.use_cases import count_up
from tests.shared.sql.outbox.builders import a_counter, count


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
