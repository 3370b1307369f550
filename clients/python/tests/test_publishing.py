"""What is published is stored and heard, by tabs and by SDKs."""

import secrets
from typing import Any
from unittest.mock import ANY

import pytest
from pydantic import BaseModel

from clients.python.tests.conftest import API_KEY
from hubbub_client import (
    BadRequest,
    Hubbub,
    HubbubError,
    IdempotencyKeyReused,
    Limits,
    NotAvailable,
    PartlyPublished,
    Position,
    Publish,
    TooLarge,
    Unauthorized,
    UnknownChannel,
)
from hubbub_client.contracts.envelope import Envelope
from tests.gateway.chatting import RunningGateway, token_of
from tests.gateway.protocols.centrifuge.talking import talking


class PostLiked(BaseModel):
    post_id: int
    liked_by: str


class OrderPlacedV2(BaseModel):
    order_id: int


def a_user() -> int:
    return secrets.randbelow(2**50) + 1


def a_channel() -> str:
    return f"chat:{secrets.token_hex(6)}"


async def data_in(hubbub: Hubbub, channel: str) -> list[Any]:
    return [each.data for each in (await hubbub.history(channel)).publications]


async def test_what_is_ephemeral_is_heard_and_not_stored(
    hubbub: Hubbub, gateway: RunningGateway
) -> None:
    channel = a_channel()
    async with talking(gateway, token_of(a_user(), "Ann")) as ann:
        await ann.ask("subscribe", channel=channel)
        await hubbub.publish_ephemeral(channel, "typing", tags={"k": "v"})
        await hubbub.publish_ephemeral(channel, PostLiked(post_id=7, liked_by="Ben"))
        heard = [await ann.publication(channel) for _ in range(2)]

    assert heard[0] == {"data": "typing", "tags": {"k": "v"}}
    assert heard[1]["data"]["event"] == "post_liked"
    assert await data_in(hubbub, channel) == []


async def test_what_is_published_is_heard_in_its_room(
    hubbub: Hubbub, gateway: RunningGateway
) -> None:
    channel = a_channel()
    async with gateway.tab(a_user(), "Ann", channel.removeprefix("chat:")) as tab:
        position = await hubbub.publish(channel, {"text": "hi \U0001f600"}, tags={"k": "v"})
        heard = await tab.until("publication")

    assert position == Position(heard["offset"], tab.welcome["epoch"])
    assert heard["data"] == {"text": "hi \U0001f600"}


async def test_a_notification_is_seen_by_tabs_and_by_sdks_as_one_of_the_posts_service(
    hubbub: Hubbub, gateway: RunningGateway
) -> None:
    user = a_user()
    event = PostLiked(post_id=7, liked_by="Bob")
    async with (
        gateway.tab(user, "Ann", "lobby") as tab,
        talking(gateway, token_of(user, "Ann")) as sdk,
    ):
        position = await hubbub.notify(user, event, idempotency_key="like-1")
        notification = await tab.until("notification")
        publication = await sdk.publication(f"#{user}")

    envelope = Envelope(id="like-1", type="post_liked", data=event.model_dump())
    as_by_a_service = envelope.to_publication_data()
    assert publication["data"] == as_by_a_service
    assert notification == as_by_a_service | {
        "type": "notification",
        "offset": position.offset,
        "time": ANY,
    }


async def test_an_event_tells_its_version_and_an_id_of_its_own(hubbub: Hubbub) -> None:
    channel = a_channel()
    for _ in range(2):
        await hubbub.publish(channel, OrderPlacedV2(order_id=1))

    [first, second] = await data_in(hubbub, channel)
    assert first == {"order_id": 1, "event": "order_placed", "version": 2, "id": ANY}
    assert first["id"] != second["id"]


async def test_a_mapping_with_an_event_is_a_notification_and_nothing_else_is(
    hubbub: Hubbub, gateway: RunningGateway
) -> None:
    user = a_user()
    async with gateway.tab(user, "Ann", "lobby") as tab:
        await hubbub.notify(str(user), {"event": "invoice_paid", "sum": 5})
        notification = await tab.until("notification")

    assert (notification["event"], notification["sum"]) == ("invoice_paid", 5)
    for nothing in ({"sum": 5}, "invoice_paid", {"event": 7}):
        with pytest.raises(ValueError, match="event"):
            await hubbub.notify(user, nothing)
    with pytest.raises(ValueError, match="user id"):
        await hubbub.notify("", {"event": "invoice_paid"})


async def test_the_same_key_is_stored_once_and_other_data_under_it_is_refused(
    hubbub: Hubbub,
) -> None:
    channel = a_channel()
    positions = [await hubbub.publish(channel, 1, idempotency_key="k") for _ in range(2)]

    assert positions[0] == positions[1]
    with pytest.raises(IdempotencyKeyReused):
        await hubbub.publish(channel, 2, idempotency_key="k")
    assert await data_in(hubbub, channel) == [1]


@pytest.mark.parametrize(
    ("channel", "data", "error"),
    [
        ("nowhere:a", 1, UnknownChannel),
        ("chat:a b", 1, BadRequest),
        ("chat:a", "x" * 70_000, TooLarge),
    ],
)
async def test_a_refusal_is_raised_with_its_code(
    hubbub: Hubbub, channel: str, data: object, error: type[HubbubError]
) -> None:
    with pytest.raises(error):
        await hubbub.publish(channel, data)


async def test_what_is_no_json_is_not_sent(hubbub: Hubbub) -> None:
    with pytest.raises(TypeError):
        await hubbub.publish("chat:a", object())
    with pytest.raises(ValueError, match="JSON"):
        await hubbub.publish("chat:a", float("nan"))


async def test_a_wrong_key_and_a_wrong_address_are_told_apart_from_an_outage(url: str) -> None:
    async with Hubbub(url, "another key") as stranger:
        with pytest.raises(Unauthorized):
            await stranger.publish("chat:a", 1)
        with pytest.raises(Unauthorized):
            await stranger.publish_many([Publish("chat:a", 1)] * 300)
    async with Hubbub(f"{url}/elsewhere", API_KEY) as lost:
        with pytest.raises(Unauthorized):
            await lost.publish("chat:a", 1)
    with pytest.raises(ValueError, match="URL"):
        Hubbub("127.0.0.1:8000", API_KEY)


async def test_a_broadcast_reaches_each_channel_and_tells_of_those_that_it_did_not(
    hubbub: Hubbub,
) -> None:
    channels = [a_channel() for _ in range(3)]

    positions = await hubbub.broadcast(channels, {"n": 1})
    with pytest.raises(PartlyPublished) as partly:
        await hubbub.broadcast([channels[0], "nowhere:a", channels[1]], {"n": 2})

    assert [position.offset for position in positions] == sorted(
        {each.offset for each in positions}
    )
    assert [await data_in(hubbub, channel) for channel in channels] == [
        [{"n": 1}, {"n": 2}],
        [{"n": 1}, {"n": 2}],
        [{"n": 1}],
    ]
    first, second, third = partly.value.outcomes
    assert isinstance(first, Position)
    assert isinstance(second, UnknownChannel)
    assert isinstance(third, Position)


async def test_many_are_published_in_their_order_however_many_requests_that_takes(
    url: str,
) -> None:
    channel = a_channel()
    long = "x" * 500
    async with Hubbub(url, API_KEY, limits=Limits(max_batch=30, max_body_bytes=10_000)) as hubbub:
        positions = await hubbub.publish_many(
            Publish(channel, [number, long]) for number in range(90)
        )
        nothing = await hubbub.publish_many([])

    assert positions == sorted(set(positions))
    assert nothing == []
    async with Hubbub(url, API_KEY) as hubbub:
        assert [data[0] for data in await data_in(hubbub, channel)] == list(range(90))


async def test_of_many_each_has_an_outcome_of_its_own(hubbub: Hubbub) -> None:
    channel = a_channel()
    many = [
        Publish(channel, 1, idempotency_key="k"),
        Publish(channel, 2, idempotency_key="k"),
        Publish(channel, "x" * 70_000),
        Publish("nowhere:a", 3),
        Publish(channel, 4, tags={"k": "v"}, delta=True),
    ]

    with pytest.raises(PartlyPublished) as partly:
        await hubbub.publish_many(many)

    kinds = [type(outcome) for outcome in partly.value.outcomes]
    assert kinds == [Position, IdempotencyKeyReused, TooLarge, UnknownChannel, Position]
    assert "3 of 5" in str(partly.value)
    publications = (await hubbub.history(channel)).publications
    assert [each.data for each in publications] == [1, 4]
    assert publications[-1].tags == {"k": "v"}


async def test_a_channel_without_history_gives_none(hubbub: Hubbub) -> None:
    with pytest.raises(NotAvailable):
        await hubbub.history("bare:a")
