"""The server API as backend services use it: Centrifugo's own client, and two gateways.

Who is connected to one gateway is told of by the other.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import cent
import httpx2
import pytest
from cent import AsyncClient, CentApiResponseError
from pydantic import SecretStr

from gateway.server_api.errors import ApiError
from gateway.server_api.surveying import matcher
from tests.fixtures import plain_http
from tests.fixtures.documented import Documented
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.protocols.centrifuge.talking import Message, Talk, talk, talking
from tests.gateway.server_api.conftest import KEY

OPTIONS: dict[str, Any] = {
    "api_key": SecretStr(KEY),
    "namespaces": {
        "chat": {"publish": "users", "presence": True, "join_leave": True},
        "kept": {"force_recovery": True, "allow_presence_for_client": True, "presence": True},
        "bare": {"history": False},
    },
}


@pytest.fixture
async def gateways(nats_url: str) -> AsyncGenerator[list[RunningGateway]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(a_gateway(nats_url, settings=OPTIONS)) for _ in range(2)
        ]


@pytest.fixture
async def here(gateways: list[RunningGateway]) -> RunningGateway:
    """Where tests connect."""
    return gateways[0]


@asynccontextmanager
async def a_client(gateway: RunningGateway) -> AsyncGenerator[AsyncClient]:
    client = AsyncClient(f"http://127.0.0.1:{gateway.port}/api", api_key=KEY)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def api(gateways: list[RunningGateway]) -> AsyncGenerator[AsyncClient]:
    """Of the other gateway."""
    async with a_client(gateways[1]) as client:
        yield client


def a_user() -> int:
    """One of whom no other test knows."""
    return secrets.randbelow(2**50) + 1


def a_channel(namespace: str = "chat") -> str:
    return f"{namespace}:{secrets.token_hex(6)}"


async def pushed(client: Talk, kind: str, channel: str | None = None) -> Message:
    """The next push of that kind; others are skipped."""
    while True:
        push = await client.push()
        if kind in push and channel in (None, push.get("channel")):
            body: Message = push[kind]
            return body


async def until_seen(api: AsyncClient, channel: str, clients: int) -> None:
    """Presence comes a moment later to the other gateway."""
    request = cent.PresenceRequest(channel=channel)
    while len((await api.presence(request)).presence) != clients:  # noqa: ASYNC110 another's
        await asyncio.sleep(0.01)


async def test_a_user_is_subscribed_everywhere_and_told_so(
    gateways: list[RunningGateway], api: AsyncClient
) -> None:
    user, channel = a_user(), a_channel("kept")
    async with (
        talking(gateways[0], token_of(user, "Ann")) as one,
        talking(gateways[1], token_of(user, "Ann")) as two,
        talking(gateways[0], token_of(a_user(), "Bob")) as bob,
    ):
        request = cent.SubscribeRequest(user=str(user), channel=channel, data={"why": "invited"})
        for _ in range(2):  # a second time changes nothing
            await api.subscribe(request)
        told = [await pushed(client, "subscribe", channel) for client in (one, two)]
        await api.publish(cent.PublishRequest(channel=channel, data={"n": 1}, tags={"k": "v"}))
        heard = [await client.publication(channel) for client in (one, two)]
        refused = await bob.ask("presence", channel=channel)

    for each in told:
        assert each["recoverable"]
        assert each["positioned"]
        assert each["data"] == {"why": "invited"}
        assert set(each) <= {"recoverable", "positioned", "data", "epoch", "offset"}
    assert [each["data"] for each in heard] == [{"n": 1}] * 2
    assert heard[0]["tags"] == {"k": "v"}
    assert {each["user"] for each in refused["presence"].values()} == {str(user)}


async def test_a_subscription_may_begin_with_what_was_missed(
    here: RunningGateway, api: AsyncClient
) -> None:
    user, channel = a_user(), a_channel("kept")
    first = await api.publish(cent.PublishRequest(channel=channel, data=1))
    for number in (2, 3):
        await api.publish(cent.PublishRequest(channel=channel, data=number))
    since = cent.StreamPosition(offset=first.offset, epoch=first.epoch)
    async with talking(here, token_of(user, "Ann")) as ann:
        await api.subscribe(
            cent.SubscribeRequest(user=str(user), channel=channel, recover_since=since)
        )
        told = await pushed(ann, "subscribe", channel)
        await api.publish(cent.PublishRequest(channel=channel, data=4))
        heard = [(await ann.publication(channel))["data"] for _ in range(3)]

    assert told["offset"] == first.offset
    assert heard == [2, 3, 4]


async def test_one_client_alone_may_be_meant(here: RunningGateway, api: AsyncClient) -> None:
    user, channel = a_user(), a_channel()
    token = token_of(user, "Ann")
    async with talk(here) as one, talking(here, token) as two:
        client = (await one.ask("connect", token=token))["client"]
        await api.subscribe(cent.SubscribeRequest(user=str(user), channel=channel, client=client))
        await pushed(one, "subscribe", channel)
        await api.disconnect(cent.DisconnectRequest(user=str(user), whitelist=[client]))
        ended = await two.closed()
        pong = await one.ask("presence_stats", channel=channel)

    assert ended == (3503, "force disconnect")
    assert pong == {"num_clients": 1, "num_users": 1}


async def test_a_user_is_unsubscribed_everywhere_and_told_so(
    here: RunningGateway, api: AsyncClient
) -> None:
    user, channel = a_user(), a_channel()
    async with talking(here, token_of(user, "Ann")) as ann:
        await ann.ask("subscribe", channel=channel)
        await until_seen(api, channel, 1)
        await api.unsubscribe(cent.UnsubscribeRequest(user=str(user), channel=channel))
        told = await pushed(ann, "unsubscribe", channel)
        again = await ann.ask("subscribe", channel=channel)

    assert told == {"code": 2000, "reason": "server unsubscribe"}
    assert "error" not in again


async def test_whom_a_service_disconnects_is_told_its_code_and_a_tab_that_its_session_ended(
    here: RunningGateway, api: AsyncClient
) -> None:
    user = a_user()
    async with (
        talking(here, token_of(user, "Ann")) as ann,
        here.tab(user, "Ann", a_room()) as tab,
        here.tab(a_user(), "Bob", a_room()) as bob,
    ):
        how = cent.Disconnect(code=4242, reason="go away")
        await api.disconnect(cent.DisconnectRequest(user=str(user), disconnect=how))
        ends = [await ann.closed(), await tab.closed()]
        await bob.pong()

    assert ends == [(4242, "go away"), (1008, "Session ended")]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, "x"), (5000, "x"), (4000, '{"reconnect":true}'), (4000, "x" * 124), (4000, "a\nb")],
)
async def test_a_connection_is_ended_by_no_code_or_reason_that_clients_take_for_another(
    api: AsyncClient, code: int, reason: str
) -> None:
    how = cent.Disconnect(code=code, reason=reason)

    with pytest.raises(CentApiResponseError) as raised:
        await api.disconnect(cent.DisconnectRequest(user="1", disconnect=how))
    assert raised.value.code == 107


async def test_a_connection_is_refreshed_or_ended_as_expired(
    here: RunningGateway, api: AsyncClient
) -> None:
    user, channel = a_user(), a_channel()
    async with talking(here, token_of(user, "Ann")) as ann:
        await ann.ask("subscribe", channel=channel)
        request = cent.RefreshRequest(user=str(user), expire_at=int(time.time()) + 5000)
        await api._send(request.model_copy(update={"info": {"role": "dj"}}))
        told = await pushed(ann, "refresh")
        await ann.ask("publish", channel=channel, data=1)
        heard = await ann.publication(channel)
        await api.refresh(cent.RefreshRequest(user=str(user), expired=True, expire_at=1))
        ended = await ann.closed()

    assert told["expires"]
    assert 4900 < told["ttl"] <= 5000
    assert heard["info"]["conn_info"] == {"role": "dj"}
    assert ended == (3005, "connection expired")


async def test_presence_is_of_all_gateways(
    gateways: list[RunningGateway], api: AsyncClient
) -> None:
    user, channel = a_user(), a_channel()
    async with (
        talking(gateways[0], token_of(user, "Ann", info={"name": "Ann"})) as one,
        talking(gateways[1], token_of(user, "Ann")) as two,
    ):
        for client in (one, two):
            await client.ask("subscribe", channel=channel)
        await until_seen(api, channel, 2)
        found = await api.presence(cent.PresenceRequest(channel=channel))
        stats = await api.presence_stats(cent.PresenceStatsRequest(channel=channel))

    assert (stats.num_clients, stats.num_users) == (2, 1)
    assert {each.user for each in found.presence.values()} == {str(user)}
    assert [each.conn_info for each in found.presence.values() if each.conn_info] == [
        {"name": "Ann"}
    ]


async def test_history_comes_in_pages_from_either_end(api: AsyncClient) -> None:
    channel = a_channel()
    sent = [
        await api.publish(cent.PublishRequest(channel=channel, data=number)) for number in range(4)
    ]
    history = cent.HistoryRequest(channel=channel)

    async def numbers(**asked: Any) -> list[int]:
        page = await api.history(history.model_copy(update=asked))
        assert (page.offset, page.epoch) >= (sent[-1].offset, sent[-1].epoch)
        return [each.data for each in page.publications]

    since = cent.StreamPosition(offset=sent[2].offset, epoch=sent[2].epoch)
    assert await numbers(limit=0) == []
    assert await numbers(limit=-1) == [0, 1, 2, 3]
    assert await numbers(limit=2) == [0, 1]
    assert await numbers(limit=2, reverse=True) == [3, 2]
    assert await numbers(limit=-1, since=since) == [3]
    assert await numbers(limit=1, since=since, reverse=True) == [1]
    with pytest.raises(CentApiResponseError) as raised:
        await numbers(limit=1, since=cent.StreamPosition(offset=1, epoch="another"))
    assert raised.value.code == 112


async def test_what_is_not_available_is_answered_so(api: AsyncClient) -> None:
    channel = a_channel("bare")
    requests: list[tuple[Any, int]] = [
        (cent.PresenceRequest(channel=channel), 108),
        (cent.PresenceStatsRequest(channel=channel), 108),
        (cent.HistoryRequest(channel=channel), 108),
        (cent.HistoryRemoveRequest(channel=a_channel()), 108),
        (cent.PublishRequest(channel=channel, data=1, version=2), 108),
        (cent.PresenceRequest(channel="nowhere:a"), 102),
        (cent.HistoryRequest(channel="nowhere:a"), 102),
        (cent.SubscribeRequest(user="1", channel="nowhere:a"), 102),
        (cent.SubscribeRequest(user="1", channel="#2"), 107),
        (cent.SubscribeRequest(user="1", channel=channel, expire_at=1), 107),
        (cent.SubscribeRequest(user="a b", channel=channel), 107),
        (cent.UnsubscribeRequest(user="1", channel=""), 107),
        (cent.RefreshRequest(user="1", expire_at=1), 107),
    ]
    for request, code in requests:
        with pytest.raises(CentApiResponseError) as raised:
            await api._send(request)
        assert (raised.value.code, request) == (code, request)


async def test_a_broadcast_is_answered_channel_by_channel(api: AsyncClient) -> None:
    one, two = a_channel(), a_channel()
    request = cent.BroadcastRequest(
        channels=[one, "nowhere:a", two], data={"n": 1}, idempotency_key="k"
    )
    first, again = [await api.broadcast(request) for _ in range(2)]

    assert first == again
    codes = [response.error and response.error.code for response in first.responses]
    assert codes == [None, 102, None]
    offsets = [response.result.offset for response in first.responses if response.result]
    assert len({*offsets}) == 2


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_is_answered_command_by_command(here: RunningGateway, parallel: bool) -> None:
    channel = a_channel()
    commands = [
        {"publish": {"channel": channel, "data": 1}},
        {"publish": {"channel": "nowhere:a", "data": 1}},
        {"presence_stats": {"channel": channel}},
        {"nothing": {}},
        {"rpc": {"method": "m"}},
        {},
    ]
    async with posting(here) as http:
        answer = await http.post("/api/batch", json={"commands": commands, "parallel": parallel})
        bad = await http.post("/api/batch", json={"commands": [1]})

    replies = answer.json()["replies"]
    assert list(replies[0]) == ["publish"]
    assert replies[2] == {"presence_stats": {"num_clients": 0, "num_users": 0}}
    assert [each.get("error", {}).get("code") for each in replies] == [
        None, 102, None, 104, 104, 104,
    ]  # fmt: skip
    assert bad.json()["error"]["code"] == 107


async def test_a_batch_of_the_client_is_read_by_it(api: AsyncClient) -> None:
    channel = a_channel()
    result = await api.batch(
        cent.BatchRequest(
            requests=[
                cent.PublishRequest(channel=channel, data=1),
                cent.PresenceStatsRequest(channel=channel),
            ]
        )
    )

    assert [type(reply) for reply in result.replies] == [
        cent.PublishResult, cent.PresenceStatsResult,
    ]  # fmt: skip


async def test_channels_are_those_of_all_gateways(
    gateways: list[RunningGateway], api: AsyncClient
) -> None:
    channel = a_channel()
    async with (
        talking(gateways[0], token_of(a_user(), "Ann")) as one,
        talking(gateways[1], token_of(a_user(), "Bob")) as two,
        gateways[0].tab(a_user(), "Cleo", channel.removeprefix("chat:")),
    ):
        for client in (one, two):
            await client.ask("subscribe", channel=channel)
        found = await api.channels(cent.ChannelsRequest(pattern=channel[:-2] + "*"))
        everything = await api.channels(cent.ChannelsRequest())
        nothing = await api.channels(cent.ChannelsRequest(pattern="nowhere:*"))

    assert {name: each.num_clients for name, each in found.channels.items()} == {channel: 3}
    assert channel in everything.channels
    assert nothing.channels == {}


async def test_a_service_does_not_wait_for_a_gateway_that_has_stopped(
    nats_url: str, api: AsyncClient
) -> None:
    async with a_gateway(nats_url, settings=OPTIONS):
        pass
    await api.disconnect(cent.DisconnectRequest(user=str(a_user())))


async def test_info_is_of_all_gateways(gateways: list[RunningGateway], api: AsyncClient) -> None:
    async with talking(gateways[0], token_of(a_user(), "Ann")) as ann:
        await ann.ask("subscribe", channel=a_channel())
        nodes = (await api.info(cent.InfoRequest())).nodes

    assert len({node.uid for node in nodes}) == 2
    assert sorted((n.num_clients, n.num_users, n.num_channels, n.num_subs) for n in nodes) == [
        (0, 0, 0, 0), (1, 1, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("presence", {"channel": "nowhere:a"}, 404),
        ("rpc", {"method": "m"}, 404),
        ("presence", {}, 400),
        ("presence", {"channel": "bare:a"}, 400),
        ("subscribe", {"user": "1", "channel": "chat:a", "info": "\ud800"}, 400),
        ("subscribe", {"user": "1", "channel": "chat:a", "expire_at": 10**400}, 400),
        ("refresh", {"user": "1", "info": ["\ud800"]}, 400),
        ("refresh", {"user": "1", "expire_at": 10**400}, 400),
        ("history", {"channel": "chat:a", "since": {"offset": 1, "epoch": "x"}}, 416),
    ],
)
async def test_who_asks_for_it_is_told_of_errors_by_a_status(
    here: RunningGateway, method: str, body: Any, status: int
) -> None:
    async with posting(here) as http:
        headers = {"X-Centrifugo-Error-Mode": "transport"}
        content = json.dumps(body)
        answer = await http.post(f"/api/{method}", content=content, headers=headers)
        plain = await http.post(f"/api/{method}", content=content)

    assert (answer.status_code, plain.status_code) == (status, 200)
    assert answer.json() == plain.json()["error"]


def posting(gateway: RunningGateway) -> httpx2.AsyncClient:
    return plain_http.client(
        base_url=f"http://127.0.0.1:{gateway.port}",
        headers={"X-API-Key": KEY},
        event_hooks=Documented().hooks,
    )


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("", "chat:a", True),
        ("*", "chat:a", True),
        ("chat:*", "chat:a:b", True),
        ("chat:*", "post:a", False),
        ("chat:?", "chat:a", True),
        ("chat:?", "chat:ab", False),
        ("chat:[ab]", "chat:b", True),
        ("chat:[!ab]", "chat:b", False),
        ("{chat,post}:a", "post:a", True),
        ("{chat,post}:a", "poet:a", False),
        ("chat:a.b", "chat:axb", False),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, name: str, is_match: bool) -> None:
    assert bool(matcher(pattern)(name)) == is_match


@pytest.mark.parametrize("pattern", ["x" * 300, "{a,b}" * 20])
def test_a_pattern_has_a_bound(pattern: str) -> None:
    with pytest.raises(ApiError):
        matcher(pattern)
