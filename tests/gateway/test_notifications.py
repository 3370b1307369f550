"""`/ws/notifications`: what is for the user, without a room and without being seen in one."""

from typing import Any

import pytest

from hubbub_client.contracts.channels import personal_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from tests.gateway.chatting import RunningGateway, a_room, token_of

PATH = "/ws/notifications"
ANN = personal_channel(UserId("1"))
LIKED = {"event": "post_liked", "post_id": 7}


async def test_the_user_is_greeted_and_hears_notifications_and_nothing_of_rooms(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    room = a_room()
    async with (
        gateway.socket(path=PATH, token=token_of(1, "Ann"), room=room) as ann,
        gateway.tab(2, "Ben", room) as ben,
    ):
        greeting = await ann.get()
        await ben.say("in the room")
        stored = await publish(publisher, ANN, LIKED)
        liked = await ann.get()

    assert greeting.keys() == {"type", "user_id", "name", "offset", "epoch"}
    assert (greeting["type"], greeting["user_id"], greeting["name"]) == ("welcome", 1, "Ann")
    assert liked.pop("time")
    assert liked == LIKED | {"type": "notification", "offset": stored.offset}
    assert ben.welcome["count"] == 1, "who only waits for notifications is in no room"


@pytest.mark.parametrize("token_comes", ["in the query", "as a message"])
async def test_who_comes_back_gets_what_was_missed(
    gateway: RunningGateway, other: RunningGateway, publisher: Publisher, token_comes: str
) -> None:
    token = token_of(1, "Ann")
    async with gateway.socket(path=PATH, token=token) as ann:
        since = (await ann.get())["offset"]
    missed = [(await publish(publisher, ANN, LIKED | {"n": n})).offset for n in range(3)]
    query: dict[str, Any] = {"token": token} if token_comes == "in the query" else {}
    async with other.socket(path=PATH, since=since, **query) as ann:
        if not query:
            await ann.send(type="auth", token=token)
        assert (await ann.get())["type"] == "welcome"
        assert [(await ann.get())["offset"] for _ in missed] == missed
        assert await ann.pong() >= missed[-1]


async def test_a_newcomer_may_ask_for_the_last_ones(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    stored = [(await publish(publisher, ANN, LIKED | {"n": n})).offset for n in range(3)]
    async with gateway.socket(path=PATH, token=token_of(1, "Ann"), history=2) as ann:
        await ann.until("welcome")
        assert [(await ann.get())["offset"] for _ in range(2)] == stored[1:]


async def test_nothing_can_be_said_there(gateway: RunningGateway) -> None:
    async with gateway.socket(path=PATH, token=token_of(1, "Ann")) as ann:
        await ann.until("welcome")
        await ann.send(type="message", id="1", body="hi")
        error = await ann.until("error")
    assert (error["code"], error["id"]) == ("forbidden", "1")


async def test_a_bad_token_is_refused_there_too(gateway: RunningGateway) -> None:
    async with gateway.socket(path=PATH, token="bad") as tab:
        assert await tab.closed() == (1008, "Invalid token")
