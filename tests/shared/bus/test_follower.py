"""The follower on a real server."""

import asyncio
import uuid

from shared.bus.client import Bus
from shared.bus.direct_get import StoredMessage
from shared.bus.follower import Follower
from shared.bus.publisher import start_publisher
from shared.bus.subjects import RT_LIVE
from tests.fixtures.waiting import eventually


async def test_what_is_published_is_delivered_in_order(bus: Bus) -> None:
    delivered: list[StoredMessage] = []
    follower = Follower(bus, "RT", RT_LIVE, deliver=delivered.append)
    name = f"test:{uuid.uuid4()}"

    async with start_publisher(bus) as publisher, asyncio.TaskGroup() as group:
        running = group.create_task(follower.run())
        await follower.until_caught_up()
        for number in range(100):
            await publisher.publish(
                f"rt.pub.{name}", str(number).encode(), message_id=f"{name}{number}"
            )
        await eventually(lambda: len(delivered) >= 100)
        running.cancel()

    assert [message.payload for message in delivered] == [str(n).encode() for n in range(100)]
    assert {message.subject for message in delivered} == {name}


class Deaf(Follower):
    """Loses every live copy."""

    def _take_live(
        self, subject: bytes, payload: bytes, headers: bytes | None, reply: bytes
    ) -> None: ...


async def test_what_was_stored_but_never_sent_on_is_delivered_within_the_idle_check(
    bus: Bus,
) -> None:
    delivered: list[StoredMessage] = []
    follower = Deaf(bus, "RT", RT_LIVE, deliver=delivered.append)
    name = f"test:{uuid.uuid4()}"

    async with start_publisher(bus) as publisher, asyncio.TaskGroup() as group:
        running = group.create_task(follower.run())
        await follower.until_caught_up()
        await publisher.publish(f"rt.pub.{name}", b"1", message_id=name)
        await eventually(lambda: len(delivered) >= 1, seconds=2)
        running.cancel()

    assert delivered[0].subject == name
