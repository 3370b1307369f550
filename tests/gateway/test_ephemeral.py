"""What is published for those who are there, as clients on two gateways see it."""

import secrets
from collections.abc import AsyncGenerator
from typing import Any

import cent
import pytest

from gateway.channels.options import Namespace, Who
from tests.fixtures.nats import StartServer
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.protocols.centrifuge.talking import talking
from tests.gateway.serving import until

KEY = "the key of these tests"
NAMESPACES = {
    "cursors": Namespace(publish=Who.USERS, ephemeral=True),
    "chat": Namespace(publish=Who.USERS),
    "patched": Namespace(allowed_delta_types={"fossil"}),
}
SETTINGS: dict[str, Any] = {"namespaces": NAMESPACES, "api_key": KEY}


@pytest.fixture
async def gateway(nats_url: str) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url, settings=SETTINGS) as running:
        yield running


@pytest.fixture
async def api(gateway: RunningGateway) -> AsyncGenerator[cent.AsyncClient]:
    client = cent.AsyncClient(f"http://127.0.0.1:{gateway.port}/api", KEY)
    yield client
    await client._session.close()  # it has no other way


def a_channel(namespace: str = "cursors") -> str:
    return f"{namespace}:{secrets.token_hex(6)}"


async def test_a_subscription_has_no_position_and_its_publications_no_offset(
    gateway: RunningGateway,
) -> None:
    channel = a_channel()
    async with talking(gateway, token_of(1, "Ann")) as ann:
        asked = {"recoverable": True, "positioned": True}
        subscribed = await ann.ask("subscribe", channel=channel, **asked)
        published = await ann.ask("publish", channel=channel, data={"x": 1})
        publication = await ann.publication(channel)

    assert subscribed == {}
    assert published == {}
    assert publication.keys() == {"data", "info"}
    assert publication["info"]["user"] == "1"


async def test_a_service_says_with_each_publication_whether_it_is_stored(
    gateway: RunningGateway, api: cent.AsyncClient
) -> None:
    one, two = a_channel("chat"), a_channel()
    async with talking(gateway, token_of(1, "Ann")) as ann:
        for channel in (one, two):
            await ann.ask("subscribe", channel=channel)

        result = await api.publish(
            cent.PublishRequest(channel=one, data=1, skip_history=True, tags={"k": "v"})
        )
        both = await api.broadcast(cent.BroadcastRequest(channels=[one, two], data=2))
        first, second = await ann.publication(one), await ann.publication(one)
        page = await api.history(cent.HistoryRequest(channel=one, limit=10))

    assert result == cent.PublishResult()
    assert first == {"data": 1, "tags": {"k": "v"}}
    assert second["data"] == 2
    assert [each.data for each in page.publications] == [2]
    offsets = [each.result.offset for each in both.responses if each.result is not None]
    assert offsets == [second["offset"], 0]  # which is none


async def test_where_patches_are_sent_everything_is_stored(api: cent.AsyncClient) -> None:
    with pytest.raises(cent.CentApiResponseError) as refused:
        await api.publish(
            cent.PublishRequest(channel=a_channel("patched"), data=1, skip_history=True)
        )
    assert refused.value.code == 108


async def test_a_tab_is_sent_nothing_that_has_no_offset(
    gateway: RunningGateway, api: cent.AsyncClient
) -> None:
    room = a_room()
    channel = f"chat:{room}"
    async with (
        gateway.tab(1, "Ann", room) as tab,
        talking(gateway, token_of(2, "Ben")) as ben,
    ):
        await ben.ask("subscribe", channel=channel)
        await api.publish(cent.PublishRequest(channel=channel, data="typing", skip_history=True))
        assert (await ben.publication(channel))["data"] == "typing"

        await tab.say("hi")

        assert (await ben.publication(channel))["data"] == {"body": "hi"}
        assert "publication" not in {each["type"] for each in await tab.so_far()}


@pytest.mark.parametrize(
    "limits",
    [
        {"ephemeral_per_second": 0.001, "ephemeral_burst": 3},
        {"user_ephemeral_units_per_second": 0.001, "user_ephemeral_burst": 3},
    ],
)
async def test_what_is_not_stored_is_limited_apart_from_messages(
    nats_url: str, limits: dict[str, Any]
) -> None:
    few_messages = {"commands_per_second": 0.001, "command_burst": 4, "max_rate_refusals": 2}
    few_messages |= {"user_units_per_second": 0.001, "user_burst": 9}  # 5 are of the connect
    async with (
        a_gateway(nats_url, settings=SETTINGS | few_messages | limits) as gateway,
        talking(gateway, token_of(1, "Ann")) as ann,
    ):
        cursors, room = a_channel(), a_channel("chat")
        for channel in (cursors, room):
            await ann.ask("subscribe", channel=channel)  # which takes of the user's bucket only

        async def publish(channel: str) -> int:
            answer = await ann.ask("publish", channel=channel, data=1)
            return int(answer["error"]["code"]) if "error" in answer else 0

        assert [await publish(cursors) for _ in range(5)] == [0, 0, 0, 111, 111]
        assert [await publish(room) for _ in range(3)] == [0, 0, 111]


async def test_who_goes_on_and_on_with_it_is_sent_away(nats_url: str) -> None:
    limits = {"ephemeral_per_second": 0.001, "ephemeral_burst": 1, "max_rate_refusals": 2}
    async with (
        a_gateway(nats_url, settings=SETTINGS | limits) as gateway,
        talking(gateway, token_of(1, "Ann")) as ann,
    ):
        for number in range(1, 5):
            await ann.say({"id": number, "publish": {"channel": a_channel(), "data": 1}})

        assert await ann.closed() == (3013, "too many requests")


async def test_who_may_not_publish_may_not_publish_what_is_not_stored(
    gateway: RunningGateway,
) -> None:
    async with talking(gateway, token_of(1, "Ann")) as ann:
        answer = await ann.ask("publish", channel=a_channel(), data=1)

    assert answer["error"]["code"] == 103  # it does not listen there


async def test_while_the_bus_is_away_who_publishes_is_told_and_who_listens_stays(
    nats_server: StartServer,
) -> None:
    server, channel = nats_server(), a_channel()
    async with (
        a_gateway(server.url, settings=SETTINGS) as gateway,
        talking(gateway, token_of(1, "Ann")) as ann,
    ):
        await ann.ask("subscribe", channel=channel)
        server.kill()
        await until(lambda: "the bus is not connected" in gateway.parts.ready())
        refused = await ann.ask("publish", channel=channel, data="lost")
        server.start()
        await until(lambda: not gateway.parts.ready())
        await ann.ask("publish", channel=channel, data="heard")

        assert (await ann.publication(channel))["data"] == "heard"
    assert (refused["error"]["code"], refused["error"]["temporary"]) == (100, True)
