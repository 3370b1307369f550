"""A counting service and what has arrived of it on the bus."""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from sqlalchemy import select

from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import Sessions, transaction
from tests.shared.sql.counting.tables import CounterRow
from tests.shared.sql.counting.use_cases import count_up

DEADLINE_SECONDS = 20


async def a_counter(sessions: Sessions) -> str:
    """Its name, which no other test has: they all share the EVENTS stream."""
    name = f"c{uuid4().hex}"
    async with transaction(sessions) as session:
        session.add(CounterRow(name=name, value=0))
    return name


async def count(sessions: Sessions, name: str, times: int = 1) -> None:
    for _ in range(times):
        async with transaction(sessions) as session:
            await count_up(session, name)


async def stored(bus: Bus, name: str) -> list[int]:
    """The counter's events as they lie in the stream."""
    found: list[int] = []
    sequence = 1
    while True:
        request = {"seq": sequence, "next_by_subj": f"events.test.{name}"}
        answer = json.loads(
            await bus.request(
                "$JS.API.STREAM.MSG.GET.EVENTS", json.dumps(request).encode(), timeout_seconds=20
            )
        )
        if "error" in answer:
            assert answer["error"]["code"] == 404, answer
            return found
        found.append(int(base64.b64decode(answer["message"]["data"])))
        sequence = answer["message"]["seq"] + 1


async def rows(sessions: Sessions, name: str) -> list[OutboxRow]:
    async with transaction(sessions, read_only=True) as session:
        of_counter = select(OutboxRow).where(OutboxRow.aggregate == f"counter:{name}")
        return list(await session.scalars(of_counter.order_by(OutboxRow.position)))


async def always() -> bool:
    return True


async def until(
    condition: Callable[[], Awaitable[bool]], *, seconds: float = DEADLINE_SECONDS
) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.01)


async def until_stored(
    bus: Bus, name: str, expected: list[int], *, seconds: float = DEADLINE_SECONDS
) -> None:
    """Wait for as many as expected, and see that it is those."""

    async def enough() -> bool:
        return len(await stored(bus, name)) >= len(expected)

    await until(enough, seconds=seconds)
    assert await stored(bus, name) == expected


async def until_sent(sessions: Sessions, name: str) -> None:
    """Wait until every row is marked."""

    async def all_marked() -> bool:
        return all(row.sent_at or row.poisoned_at for row in await rows(sessions, name))

    await until(all_marked)


class SpiedPublisher(Publisher):
    """The real one, which remembers what went through it."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.published: list[str] = []
        self.has_published = asyncio.Event()
        self.has_given_up = asyncio.Event()
        self.at_once: dict[str, int] = {}
        self.most_of_one_subject = 0
        self.most = 0

    async def publish(self, subject: str, *arguments: object, **options: object) -> PubAck:
        self.at_once[subject] = self.at_once.get(subject, 0) + 1
        self.most_of_one_subject = max(self.most_of_one_subject, self.at_once[subject])
        self.most = max(self.most, sum(self.at_once.values()))
        try:
            answer = await super().publish(subject, *arguments, **options)  # type: ignore[arg-type]
        except BusUnavailable:
            self.has_given_up.set()
            raise
        finally:
            self.at_once[subject] -= 1
        self.published.append(subject)
        self.has_published.set()
        return answer


class StuckPublisher(SpiedPublisher):
    """The real one behind a gate: what is published waits until it opens, past any deadline."""

    def __init__(self, bus: Bus, *, stuck: str = "") -> None:
        """``stuck`` names the only subject that waits."""
        super().__init__(bus)
        self._stuck = stuck
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self.gave_up = asyncio.Event()

    async def publish(self, subject: str, *arguments: object, **options: object) -> PubAck:
        if self._stuck in subject:
            self.reached.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.gave_up.set()
                raise
        return await super().publish(subject, *arguments, **options)
