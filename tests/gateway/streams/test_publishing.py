"""Publishing into channels of a real stream."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.streams.history import History
from gateway.streams.publishing import (
    ChannelPublisher,
    IdReused,
    PublicationRefused,
    PublicationTooLong,
    PublishingLimits,
    PublishResult,
)
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import Publication, Sender, StoredPublication
from hubbub_client.jetstream.publisher import PubAck, Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import connect_bus
from hubbub_client.nats.errors import BusUnavailable
from tests.fixtures.nats import NatsServer

ANN = Sender(user_id=UserId("1"), name="Ann")
BOB = Sender(user_id=UserId("2"), name="Bob")

LIMITS = PublishingLimits(deadline_seconds=5)

AChannel = Callable[[], ChannelName]


async def by_user(
    publishing: ChannelPublisher,
    channel: ChannelName,
    sender: Sender,
    data: Any,
    *,
    client_id: str | None = None,
) -> int:
    """The offset of what a user publishes."""
    done: asyncio.Future[PublishResult] = asyncio.get_running_loop().create_future()
    publishing.send_by_user(
        channel, Publication(data, sender), done.set_result, client_id=client_id
    )
    result = await done
    assert isinstance(result, PubAck)
    return await publishing.resolve_duplicate(result, data) if result.duplicate else result.offset


@pytest.fixture
async def publishing(publisher: Publisher, history: History) -> ChannelPublisher:
    return ChannelPublisher(publisher, history, limits=LIMITS)


async def test_a_publication_is_stored_at_its_offset_with_its_sender(
    publishing: ChannelPublisher, history: History, a_channel: AChannel
) -> None:
    channel = a_channel()

    offset = await by_user(publishing, channel, ANN, {"body": "hello"})

    [kept] = await history.last(channel, 5, up_to=offset)
    assert kept.offset == offset
    assert Publication.decode(kept.payload) == Publication(data={"body": "hello"}, sender=ANN)


async def test_a_repeat_under_the_same_id_is_stored_once(
    publishing: ChannelPublisher, history: History, a_channel: AChannel
) -> None:
    channel = a_channel()

    first = await by_user(publishing, channel, ANN, {"body": "hello"}, client_id="1")
    again = await by_user(publishing, channel, ANN, {"body": "hello"}, client_id="1")

    assert again == first
    assert len(await history.last(channel, 5, up_to=first + 100)) == 1


async def test_without_an_id_the_same_data_twice_is_two_publications(
    publishing: ChannelPublisher, a_channel: AChannel
) -> None:
    channel = a_channel()

    first = await by_user(publishing, channel, ANN, {"body": "hello"})
    second = await by_user(publishing, channel, ANN, {"body": "hello"})
    by_service = await publishing.publish_by_service(channel, Publication({"body": "hello"}))

    assert first < second < by_service


async def test_the_same_id_of_another_user_room_or_service_is_another_publication(
    publishing: ChannelPublisher, a_channel: AChannel
) -> None:
    channel, other = a_channel(), a_channel()

    offsets = {
        await by_user(publishing, channel, ANN, {"body": "a"}, client_id="1"),
        await by_user(publishing, channel, BOB, {"body": "b"}, client_id="1"),
        await by_user(publishing, other, ANN, {"body": "c"}, client_id="1"),
        await publishing.publish_by_service(channel, Publication({"body": "d"}), key="1"),
        await publishing.publish_by_service(other, Publication({"body": "e"}), key="1"),
    }

    assert len(offsets) == 5


@pytest.mark.parametrize("data", [{"body": "other"}, {"body": 1}, None, {"body": "a", "x": 1}])
async def test_an_id_that_was_used_for_other_data_is_refused(
    publishing: ChannelPublisher, a_channel: AChannel, data: Any
) -> None:
    channel = a_channel()
    await publishing.publish_by_service(channel, Publication({"body": "a"}), key="1")

    with pytest.raises(IdReused):
        await publishing.publish_by_service(channel, Publication(data), key="1")


async def test_true_is_not_the_same_as_one(
    publishing: ChannelPublisher, a_channel: AChannel
) -> None:
    channel = a_channel()
    await publishing.publish_by_service(channel, Publication({"liked": True}), key="1")

    with pytest.raises(IdReused):
        await publishing.publish_by_service(channel, Publication({"liked": 1}), key="1")


async def test_the_order_of_keys_makes_no_difference(
    publishing: ChannelPublisher, a_channel: AChannel
) -> None:
    channel = a_channel()
    first = await publishing.publish_by_service(channel, Publication({"a": 1, "b": 2}), key="1")

    assert (
        await publishing.publish_by_service(channel, Publication({"b": 2, "a": 1}), key="1")
        == first
    )


async def test_a_publication_in_memory_is_not_read_from_the_stream(
    publishing: ChannelPublisher, publisher: Publisher, history: History, a_channel: AChannel
) -> None:
    channel = a_channel()
    offset = await publishing.publish_by_service(channel, Publication(1), key="1")
    asked: list[int] = []

    def recent(offset: int) -> StoredPublication:
        asked.append(offset)
        return StoredPublication(offset, channel, Publication(data=2).encode())

    with pytest.raises(IdReused):
        await ChannelPublisher(publisher, history, recent=recent, limits=LIMITS).publish_by_service(
            channel, Publication(1), key="1"
        )
    assert asked == [offset]


async def test_data_that_is_too_long_or_not_json_is_refused(
    publisher: Publisher, history: History, a_channel: AChannel
) -> None:
    limits = replace(LIMITS, max_payload_bytes=100)
    publishing = ChannelPublisher(publisher, history, limits=limits)

    with pytest.raises(PublicationTooLong, match="100 bytes"):
        await publishing.publish_by_service(a_channel(), Publication("x" * 100))
    with pytest.raises(PublicationRefused):
        await publishing.publish_by_service(a_channel(), Publication("\ud800"))


async def test_what_services_publish_is_on_its_way_before_anybody_awaits_it(
    publishing: ChannelPublisher, publisher: Publisher, a_channel: AChannel
) -> None:
    channel = a_channel()
    one, two = (publishing.publish_by_service(channel, Publication(each)) for each in (1, 2))
    assert publisher.unanswered == 2
    second, first = await two, await one
    assert first < second


async def test_who_is_cancelled_sends_nothing_again(
    publishing: ChannelPublisher, publisher: Publisher, a_channel: AChannel
) -> None:
    async def publish() -> None:
        await publishing.publish_by_service(a_channel(), Publication(1))

    async with asyncio.TaskGroup() as group:
        task = group.create_task(publish())
        group.create_task(asyncio.sleep(0)).add_done_callback(lambda _: task.cancel())
    assert publisher.unanswered == 0


async def test_more_than_the_server_takes_is_too_long(
    publisher: Publisher, history: History, a_channel: AChannel
) -> None:
    limits = replace(LIMITS, max_payload_bytes=10**9)

    with pytest.raises(PublicationTooLong):
        await ChannelPublisher(publisher, history, limits=limits).publish_by_service(
            a_channel(), Publication("x" * 2_000_000)
        )


async def test_without_a_bus_publishing_is_unavailable(
    nats_server: Callable[[], NatsServer], a_channel: AChannel
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        server.stop()
        publishing = ChannelPublisher(
            publisher,
            History(StreamReader(bus, "RT")),
            limits=PublishingLimits(deadline_seconds=0.3),
        )

        with pytest.raises(BusUnavailable) as caught:
            await publishing.publish_by_service(a_channel(), Publication(1))

    assert caught.value.code == "unavailable"
