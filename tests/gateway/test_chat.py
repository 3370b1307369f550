"""`/ws/chat`, message by message, on real gateways."""

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import ANY

import pytest

from hubbub_client.contracts.channels import personal_channel, room_channel
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.nats.client import Bus
from shared.tokens.jwk import TrustedKey
from shared.tokens.keys import FixedKeys
from tests.fixtures.tokens import OUR_KEY
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.serving import until
from tests.shared.jetstream.builders import publish_event

ANN = {"user_id": 1, "name": "Ann"}
BEN = {"user_id": 2, "name": "Ben"}


async def test_a_newcomer_is_welcomed_and_hears_nothing_of_itself(gateway: RunningGateway) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        welcome = dict(ann.welcome)

        assert welcome.pop("epoch")
        assert welcome.pop("offset") >= 0
        expected = {"type": "welcome", **ANN, "room": room, "count": 1, "users": [ANN]}
        assert welcome == expected
        assert await ann.so_far() == []


async def test_who_names_no_room_is_in_the_lobby(gateway: RunningGateway) -> None:
    async with gateway.tab(1, "Ann", "lobby") as ann:
        assert ann.welcome["room"] == "lobby"


async def test_a_message_reaches_everybody_on_every_gateway_the_sender_too(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann, other.tab(2, "Ben", room) as ben:
        await ann.send(type="message", body="hello <b>", id="m1")
        message = await ben.until("message")
        offset = message["offset"]

        assert message == {
            "type": "message",
            **ANN,
            "body": "hello <b>",
            "offset": offset,
            "time": ANY,
        }
        assert await ann.until("message") == message
        assert await ann.until("ack") == {"type": "ack", "id": "m1", "offset": offset}


@pytest.mark.parametrize("odd", ["*", ">", "a.*.~%2A", '"\\|auth0', "!-~"])
async def test_a_room_has_any_printable_name(
    gateway: RunningGateway, other: RunningGateway, odd: str
) -> None:
    room = a_room() + odd
    async with gateway.tab(1, "Ann", room) as ann, other.tab(2, "Ben", room) as ben:
        await ann.say("hello")
        assert (await ben.until("message"))["body"] == "hello"
        assert {user["name"] for user in ben.welcome["users"]} == {"Ann", "Ben"}
        async with other.tab(3, "Cem", room, history=1) as cem:
            assert cem.welcome["room"] == room
            assert (await cem.until("message"))["body"] == "hello"


async def test_without_an_id_nothing_is_acknowledged(gateway: RunningGateway) -> None:
    async with gateway.tab(1, "Ann", a_room()) as ann:
        for body in ("one", "two"):
            await ann.send(type="message", body=body)
        assert (await ann.until("message"))["body"] == "one"
        assert (await ann.until("message"))["body"] == "two"
        assert await ann.so_far() == []


async def test_a_repeat_of_an_id_is_stored_once_and_acked_alike(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        await ann.send(type="message", body="hi", id="m1")
        first = await ann.until("ack")
        async with other.tab(1, "Ann", room) as again:
            await again.send(type="message", body="hi", id="m1")
            assert await again.until("ack") == first
            await again.send(type="message", body="something else", id="m1")
            refused = await again.until("error")
            assert (refused["code"], refused["id"]) == ("id_reused", "m1")
            await again.send(type="message", body="end")
            await again.until("message", body="end")
        messages = await ann.all_until("message", body="end")
        assert [message for message in messages if message["type"] == "message"] == []


async def test_the_same_id_in_two_rooms_or_of_two_users_is_two_messages(
    gateway: RunningGateway,
) -> None:
    here, there = a_room(), a_room()
    async with (
        gateway.tab(1, "Ann", here) as ann,
        gateway.tab(1, "Ann", there) as elsewhere,
        gateway.tab(2, "Ben", here) as ben,
    ):
        offsets = set()
        for tab in (ann, elsewhere, ben):
            await tab.send(type="message", body="hi", id="m1")
            offsets.add((await tab.until("ack"))["offset"])
        assert len(offsets) == 3


@pytest.mark.parametrize("data", [{"likes": 3}, None, "text", [1, {"body": "x"}], {"body": "x"}])
async def test_what_a_service_publishes_into_the_room_is_a_publication(
    gateway: RunningGateway, publisher: Publisher, data: Any
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        stored = await publish(publisher, room_channel(room), data)

        expected = {"type": "publication", "data": data, "offset": stored.offset, "time": ANY}
        assert await ann.get() == expected


async def test_a_notification_reaches_all_tabs_of_its_user_and_nobody_else(
    gateway: RunningGateway, other: RunningGateway, publisher: Publisher
) -> None:
    liked = {"event": "post_liked", "id": "e1", "post_id": 7, "post_title": "T", "liked_by": "Ben"}
    async with (
        gateway.tab(101, "Ann", a_room()) as one,
        other.tab(101, "Ann", a_room()) as two,
        gateway.tab(102, "Ben", a_room()) as ben,
    ):
        stored = await publish(publisher, personal_channel(UserId("101")), liked)
        expected = liked | {"type": "notification", "offset": stored.offset, "time": ANY}

        assert await one.get() == expected
        assert await two.get() == expected
        assert await ben.so_far() == []


async def test_an_event_becomes_a_notification_once_and_moves_its_channels(
    gateway: RunningGateway, other: RunningGateway, publisher: Publisher
) -> None:
    room = a_room()
    event = Envelope(
        type="post_liked", recipients=(UserId("104"),), channels=(room_channel(room),),
        data={"post_id": 7},
    )  # fmt: skip
    expected = {"event": "post_liked", "id": event.id, "post_id": 7}
    async with gateway.tab(104, "Ann", a_room()) as ann, other.tab(105, "Ben", room) as ben:
        for _ in range(2):
            await publish_event(publisher, event)

        notification = await ann.until("notification")
        assert expected.items() <= notification.items()
        assert (await ben.until("publication"))["data"] == expected
        await publish(publisher, personal_channel(UserId("104")), {"event": "end"})
        assert await ann.all_until("notification", event="end") == []


async def test_anything_else_in_the_personal_channel_is_a_publication_that_names_it(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    async with gateway.tab(103, "Ann", a_room()) as ann:
        stored = await publish(publisher, personal_channel(UserId("103")), {"x": 1})

        expected = {"type": "publication", "channel": "#103", "data": {"x": 1}}
        assert await ann.get() == expected | {"offset": stored.offset, "time": ANY}


async def test_a_pong_tells_where_the_stream_stands_beyond_the_own_room(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    async with gateway.tab(1, "Ann", "lobby") as ann, gateway.tab(2, "Ben", a_room()) as ben:
        stored = await publish(publisher, room_channel("lobby"), "not for Ben")
        await ann.until("publication", offset=stored.offset)
        await ben.send(type="ping")

        assert (await ben.until("pong"))["offset"] >= stored.offset


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", {"code": "bad_json"}),
        ("[1]", {"code": "bad_json"}),
        ('{"type":"shout","id":"a"}', {"code": "unknown_type", "id": "a"}),
        ('{"type":"message","id":"a"}', {"code": "bad_body", "id": "a"}),
        ('{"type":"message","body":7,"id":"a"}', {"code": "bad_body", "id": "a"}),
        ('{"type":"message","body":"","id":"a"}', {"code": "bad_body", "id": "a"}),
        ('{"type":"message","body":"hi","id":7}', {"code": "bad_id"}),
        ('{"type":"message","body":"%s","id":"a"}' % ("x" * 4097), {"code": "too_long", "id": "a"}),
        ("[" * 60_000, {"code": "bad_json"}),
        ('{"type":"message","body":"\\ud800","id":"a"}', {"code": "bad_body", "id": "a"}),
    ],
)
async def test_a_bad_command_is_answered_and_the_connection_lives(
    gateway: RunningGateway, text: str, error: dict[str, str]
) -> None:
    async with gateway.tab(1, "Ann", a_room()) as ann:
        await ann.socket.send(text)
        answer = await ann.get()

        assert answer.pop("message")
        assert answer == {"type": "error", **error}
        await ann.send(type="message", body="still here", id="b")
        await ann.until("ack", id="b")


async def test_what_came_right_before_the_tab_left_is_published(gateway: RunningGateway) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        async with gateway.tab(2, "Ben", room) as ben:
            for number in range(20):
                await ben.send(type="message", body=str(number))
        bodies = [(await ann.until("message"))["body"] for _ in range(20)]
        assert bodies == [str(number) for number in range(20)]


class KeysThatComeLate(FixedKeys):
    """Our key, of which its issuer tells when it is let."""

    def __init__(self) -> None:
        super().__init__([OUR_KEY])
        self.come = asyncio.Event()
        self.asked = asyncio.Event()

    def find(self, kid: str) -> Sequence[TrustedKey]:
        return super().find(kid) if self.come.is_set() else ()

    async def look_again(self) -> None:
        self.asked.set()
        await self.come.wait()


async def test_what_is_sent_before_the_welcome_is_done_after_it(nats_url: str, bus: Bus) -> None:
    keys = KeysThatComeLate()
    async with (
        a_gateway(nats_url, keys=keys) as gateway,
        gateway.socket(token=token_of(1, "Ann"), room=a_room()) as tab,
    ):
        await keys.asked.wait()
        await tab.send(type="ping")
        await tab.send(type="message", body="early", id="e")
        await tab.send(type="nonsense")
        await until(lambda: gateway.metric("hubbub_commands_total", type="bad") == 1)
        keys.come.set()

        assert (await tab.get())["type"] == "welcome"
        kinds = {(await tab.get())["type"] for _ in range(4)}
        assert kinds == {"pong", "ack", "message", "error"}


async def test_more_commands_than_may_wait_are_all_done_in_order(nats_url: str) -> None:
    async with (
        a_gateway(nats_url, settings={"max_waiting_commands": 3}) as gateway,
        gateway.tab(1, "Ann", a_room()) as ann,
    ):
        for number in range(100):
            await ann.send(type="message", body="x", id=str(number))
        acked = [(await ann.until("ack"))["id"] for _ in range(100)]
        assert acked == [str(number) for number in range(100)]
