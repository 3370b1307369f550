"""Who is there, what was said, and whom a service subscribes or ends."""

import asyncio
import secrets

import pytest

from clients.python.tests.conftest import API_KEY
from hubbub_client import Connection, Hubbub, Position, PositionLost, PresenceStats
from tests.gateway.chatting import RunningGateway, token_of
from tests.gateway.protocols.centrifuge.talking import talking
from tests.gateway.serving import DEADLINE_SECONDS


def a_user() -> int:
    return secrets.randbelow(2**50) + 1


def a_channel(namespace: str = "chat") -> str:
    return f"{namespace}:{secrets.token_hex(6)}"


async def test_presence_tells_of_each_connection_and_its_user(
    hubbub: Hubbub, gateway: RunningGateway
) -> None:
    user, channel = a_user(), a_channel()
    async with talking(gateway, token_of(user, "Ann", info={"team": 1})) as ann:
        await ann.ask("subscribe", channel=channel)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (clients := await hubbub.presence(channel)):  # soon, not at once
                continue
        stats = await hubbub.presence_stats(channel)

    [client] = clients
    assert client == Connection(client.id, str(user), {"team": 1})
    assert stats == PresenceStats(clients=1, users=1)
    assert await hubbub.presence_stats(a_channel()) == PresenceStats(clients=0, users=0)


async def test_history_is_read_page_by_page_in_both_directions(hubbub: Hubbub) -> None:
    channel = a_channel()
    for number in range(5):
        await hubbub.publish(channel, number, tags={"n": str(number)})

    position = (await hubbub.history(channel, limit=0)).position
    first = await hubbub.history(channel, limit=2)
    since = Position(first.publications[-1].offset, first.position.epoch)
    second = await hubbub.history(channel, limit=2, since=since)
    newest = await hubbub.history(channel, limit=1, reverse=True)

    assert [each.data for each in first.publications + second.publications] == [0, 1, 2, 3]
    assert [each.data for each in newest.publications] == [4]
    assert first.publications[1].tags == {"n": "1"}
    assert position.epoch == first.position.epoch
    assert position.offset >= newest.publications[0].offset
    with pytest.raises(PositionLost):
        await hubbub.history(channel, since=Position(1, "another epoch"))


async def test_history_names_the_connection_that_published(
    hubbub: Hubbub, gateway: RunningGateway
) -> None:
    user, channel = a_user(), a_channel()
    async with talking(gateway, token_of(user, "Ann")) as ann:
        await ann.ask("subscribe", channel=channel)
        await ann.ask("publish", channel=channel, data="hi")
    async with gateway.tab(user, "Ann", channel.removeprefix("chat:")) as tab:
        await tab.say("hello")

    by_sdk, by_tab = (await hubbub.history(channel)).publications
    assert by_sdk.data == "hi"
    assert by_sdk.sender is not None
    assert (by_sdk.sender.user, bool(by_sdk.sender.id)) == (str(user), True)
    assert by_tab.data == {"body": "hello"}
    assert by_tab.sender == Connection("", str(user))


async def test_a_user_is_subscribed_with_what_was_missed_and_unsubscribed(
    hubbub: Hubbub, gateway: RunningGateway
) -> None:
    user, channel = a_user(), a_channel("kept")
    before = await hubbub.publish(channel, 1)
    await hubbub.publish(channel, 2)
    async with talking(gateway, token_of(user, "Ann")) as ann:
        await hubbub.subscribe(user, channel, since=before, data={"why": "invited"})
        missed = await ann.publication(channel)
        await hubbub.unsubscribe(user, channel)
        ended = await ann.push()

    assert missed["data"] == 2
    assert "unsubscribe" in ended


async def test_a_user_is_disconnected_with_a_code(hubbub: Hubbub, gateway: RunningGateway) -> None:
    user = a_user()
    async with talking(gateway, token_of(user, "Ann")) as ann:
        await hubbub.disconnect(user, code=4242, reason="go away")
        ended = await ann.closed()

    assert ended == (4242, "go away")


@pytest.mark.parametrize("ending", ["", "/", "/api", "/api/"])
async def test_the_url_may_end_with_the_path_as_other_clients_want_it(
    url: str, ending: str
) -> None:
    async with Hubbub(f"{url}{ending}", API_KEY) as hubbub:
        assert await hubbub.presence_stats(a_channel()) == PresenceStats(clients=0, users=0)
