"""The relay's SQL, where two processes meet."""

import asyncio

from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.outbox.table import OutboxStream
from hubbub_client.sql.database import Sessions, transaction


async def test_processes_that_note_a_stream_for_the_first_time_together_both_do(
    sessions: Sessions, other_sessions: Sessions
) -> None:
    neither_knew = asyncio.Barrier(2)

    async def look_and_note(own: Sessions, epoch: str) -> None:
        async with transaction(own, read_only=True) as db:
            assert await db.get(OutboxStream, "EVENTS") is None
            await neither_knew.wait()
        async with transaction(own) as db:
            await outbox_rows.note(db, "EVENTS", epoch=epoch, floor=1)

    async with asyncio.TaskGroup() as group:
        group.create_task(look_and_note(sessions, "e1"))
        group.create_task(look_and_note(other_sessions, "e2"))

    noted = await outbox_rows.noted(sessions, "EVENTS")
    assert noted is not None
    assert noted.floor == 1
