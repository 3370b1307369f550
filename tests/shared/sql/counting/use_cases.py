"""What the counting service does: count one up and tell it, in one transaction."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from hubbub_client.outbox import append_message
from tests.shared.sql.counting.tables import CounterRow


async def count_up(session: AsyncSession, name: str) -> int:
    """Return the new value, whose event ``events.test.<name>`` has it as its payload."""
    add_one = update(CounterRow).where(CounterRow.name == name).values(value=CounterRow.value + 1)
    value: int = (await session.execute(add_one.returning(CounterRow.value))).scalar_one()
    append_message(
        session,
        subject=f"events.test.{name}",
        aggregate=f"counter:{name}",
        message_id=f"{name}:{value}",
        payload=str(value).encode(),
    )
    return value
