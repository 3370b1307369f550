"""Messages that the server was made to deliver to where others publish."""

from uuid import uuid4

import pytest

from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import Bus
from hubbub_client.nats.foreign import ForeignMessages, without_foreign
from tests.fixtures.waiting import eventually


@pytest.mark.parametrize(
    ("subscribed", "published", "heeded"),
    [
        ("gw.all.*", b"gw.all.disconnect", True),
        ("gw.all.*", b"events.evil.disconnect", False),
        ("rt.live.>", b"rt.live.chat:lobby", True),
        ("rt.live.>", b"rt.pub.chat:lobby", False),
        ("rpc.stop", b"rpc.stop", True),
        ("rpc.stop", b"rpc.stop.other", False),
        (">", b"anything.at.all", True),
    ],
)
def test_a_subscription_heeds_what_was_published_to_what_it_subscribes_to(
    subscribed: str, published: bytes, heeded: bool
) -> None:
    heard: list[bytes] = []
    handler = without_foreign(subscribed, lambda subject, *_rest: heard.append(subject))

    handler(published, b"", None, b"")

    assert heard == [published] * heeded


def test_foreign_messages_are_counted_and_told_of_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    foreign = ForeignMessages("CTL")

    foreign.note("events.evil.a")
    foreign.note("events.evil.b")

    assert foreign.count == 2
    assert len(caplog.messages) == 1
    assert "place='CTL' subject='events.evil.a' count=1" in caplog.messages[0]


async def test_what_a_consumer_is_made_to_deliver_elsewhere_is_not_heard_there(
    bus: Bus, other_bus: Bus
) -> None:
    name, heard, delivered = f"evil{uuid4().hex[:8]}", list[bytes](), list[bytes]()
    await bus.subscribe(f"{name}.*", lambda _s, payload, *_rest: heard.append(payload))
    await bus.subscribe(
        f"{name}.*", lambda _s, payload, *_rest: delivered.append(payload), foreign=True
    )
    config = {"durable_name": name, "filter_subject": f"events.{name}.a", "ack_policy": "none"}
    api = JetStreamApi(other_bus)
    await api.create_consumer("EVENTS", config)
    async with start_publisher(other_bus) as publisher:
        await publisher.publish(f"events.{name}.a", b"forged", message_id=name)

    api.request_next(
        "EVENTS", name, batch=1, expires_seconds=1, group=None, pin=None, reply=f"{name}.stop"
    )
    await eventually(lambda: delivered == [b"forged"])
    other_bus.send(f"{name}.stop", b"honest")
    await eventually(lambda: heard == [b"honest"])
