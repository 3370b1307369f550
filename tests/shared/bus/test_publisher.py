"""Publishing on a real server."""

import uuid

from shared.bus.client import Bus
from shared.bus.publisher import start_publisher


async def test_what_is_published_is_stored_once_however_often_it_is_sent(bus: Bus) -> None:
    subject = f"rt.pub.test:{uuid.uuid4()}"
    message_id = str(uuid.uuid4())

    async with start_publisher(bus) as publisher:
        first = await publisher.publish(subject, b"{}", message_id=message_id)
        second = await publisher.publish(subject, b"{}", message_id=message_id)

    assert not first.duplicate
    assert second.duplicate
    assert second.offset == first.offset
