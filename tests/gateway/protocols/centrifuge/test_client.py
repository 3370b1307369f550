"""A client and its gateway, line by line."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.channels.options import Namespace, Who
from gateway.session.rate import ANSWERED_BYTES_A_UNIT, CONNECT_UNITS, PUBLICATIONS_A_UNIT
from shared.contracts.channels import parse_channel, personal_channel
from shared.contracts.ids import SessionId, UserId
from shared.jetstream.publisher import Publisher
from shared.jetstream.publishing import publish
from shared.nats.client import Bus
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.protocols.centrifuge.talking import publish_seen, talk, talking

BAD_REQUEST = (3501, "bad request")
NAMESPACES = {
    "chat": Namespace(publish=Who.USERS, presence=True, join_leave=True),
    "news": Namespace(publish=Who.USERS, force_recovery=True, presence=True),
    "small": Namespace(publish=Who.USERS, force_recovery=True, history_size=2),
    "tagged": Namespace(publish=Who.USERS, allow_tags_filter=True),
    "delta": Namespace(
        publish=Who.USERS, force_recovery=True, allowed_delta_types={"fossil"}, delta_publish=True
    ),
    "cache": Namespace(
        publish=Who.USERS,
        force_recovery=True,
        force_recovery_mode="cache",
        auto_cache_recover=True,
    ),
    "seen": Namespace(presence=True, allow_presence_for_client=True),
    "off": Namespace(subscribe=Who.SERVICES, history=False),
}
SETTINGS: dict[str, Any] = {"namespaces": NAMESPACES, "channel_limit": 5}


@pytest.fixture
async def gateway(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url, settings=SETTINGS) as running:
        yield running


@pytest.fixture
async def other(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url, settings=SETTINGS) as running:
        yield running


def a_channel(namespace: str = "news") -> str:
    return f"{namespace}:{a_room()}"


async def test_a_connect_is_answered_with_what_the_client_has_to_know(
    gateway: RunningGateway,
) -> None:
    async with talk(gateway) as client:
        connected = await client.ask("connect", token=token_of(42, "Ann"), name="js")
        assert connected.keys() == {"client", "version", "expires", "ttl", "subs", "ping", "pong"}
        assert connected["client"]
        assert connected["version"]
        assert connected["expires"] is True
        assert 800 < connected["ttl"] <= 900
        assert connected["ping"] == 20
        personal = connected["subs"]["#42"]
        assert personal["recoverable"] is personal["positioned"] is True
        assert personal["epoch"]


@pytest.mark.parametrize(
    ("message", "close"),
    [
        ("x", BAD_REQUEST),
        ('{"id":1,"subscribe":{"channel":"news:a"}}', BAD_REQUEST),
        ('{"id":1,"connect":{}}', BAD_REQUEST),
        ('{"id":1,"connect":{"token":"bad"}}', (3500, "invalid token")),
        ('{"id":1}', BAD_REQUEST),
        (b"binary", (3506, "inappropriate protocol")),
    ],
)
async def test_who_does_not_begin_with_a_good_connect_is_sent_away(
    gateway: RunningGateway, message: str | bytes, close: tuple[int, str]
) -> None:
    async with talk(gateway) as client:
        await client.socket.send(message)
        assert await client.closed() == close


async def test_who_says_nothing_is_sent_away_in_time(nats_url: str) -> None:
    async with (
        a_gateway(nats_url, settings={"auth_seconds": 0.3}) as gateway,
        talk(gateway) as client,
    ):
        assert await client.closed() == (3502, "stale")


async def test_a_second_connect_ends_the_connection(gateway: RunningGateway) -> None:
    async with talking(gateway, token_of(1, "Ann")) as client:
        await client.say({"id": 9, "connect": {"token": token_of(1, "Ann")}})
        assert await client.closed() == BAD_REQUEST


async def test_a_token_that_is_over_is_an_error_so_that_the_client_fetches_another(
    gateway: RunningGateway,
) -> None:
    async with talk(gateway) as client:
        answer = await client.ask("connect", token=token_of(1, "Ann", seconds=-5))
        assert answer == {"error": {"code": 109, "message": "token expired"}}


async def test_a_grant_that_is_over_is_an_error(gateway: RunningGateway) -> None:
    async with talk(gateway) as client:
        answer = await client.ask("connect", token=token_of(1, "Ann", expire_at=1))
        assert answer == {"error": {"code": 110, "message": "expired"}}


async def test_who_goes_on_after_an_error_to_its_connect_is_sent_away(
    gateway: RunningGateway,
) -> None:
    over, subscribe = token_of(1, "Ann", seconds=-5), {"channel": a_channel()}
    async with talk(gateway) as client:  # as SDKs do, which stop when they read the error
        await client.say({"id": 1, "connect": {"token": over}}, {"id": 2, "subscribe": subscribe})
        assert json.loads(await client.socket.recv())["error"]["code"] == 109
        await client.say({"id": 3, "subscribe": subscribe})
        assert await client.closed() == BAD_REQUEST


async def test_a_client_that_answers_no_ping_is_told_so(nats_url: str) -> None:
    quick = {"ping_seconds": 1, "pong_seconds": 0.4}
    async with (
        a_gateway(nats_url, settings=quick) as gateway,
        talking(gateway, token_of(1, "Ann")) as client,
    ):
        assert await client.closed() == (3012, "no pong")


async def test_a_protobuf_client_is_told_no_for_good(gateway: RunningGateway) -> None:
    async with talk(gateway, "/connection/websocket?cf_protocol=protobuf") as client:
        assert await client.closed() == BAD_REQUEST


async def test_commands_behind_connect_in_one_message_are_answered_in_their_order(
    gateway: RunningGateway,
) -> None:
    channel = a_channel()
    async with talk(gateway) as client:
        await client.say(
            {"id": 1, "connect": {"token": token_of(1, "Ann")}},
            {"id": 2, "subscribe": {"channel": channel}},
            {"id": 3, "publish": {"channel": channel, "data": {"n": 1}}},
        )
        came = [json.loads(await client.socket.recv()) for _ in range(4)]

    assert [each.get("id") for each in came if "id" in each] == [1, 2, 3]
    [pushed] = [each["push"] for each in came if "push" in each]
    assert pushed["pub"]["data"] == {"n": 1}
    assert pushed["pub"]["info"]["user"] == "1"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"channel": "nowhere:x"}, 102),
        ({"channel": "no colon"}, 107),
        ({"channel": "x" * 256}, 107),
        ({"channel": "$news:secret"}, 103),
        ({"channel": "off:x"}, 103),
        ({"channel": "#2"}, 103),
        ({"channel": "news:x", "token": "bad"}, 103),
        ({"channel": "news:x", "type": 1}, 103),
        ({"channel": "news:x", "type": 4}, 108),
        ({"channel": "news:x", "tf": {"key": "a", "cmp": "eq", "val": "b"}}, 107),
        ({"channel": "tagged:x", "tf": {"cmp": "eq"}}, 107),
        ({"channel": "tagged:x", "tf": {"key": "a", "cmp": "eq", "val": "\ud800"}}, 107),
        ({"channel": "tagged:x", "tf": {"key": "a", "cmp": "eq", "val": "b" * 5000}}, 107),
    ],
)
async def test_a_subscription_that_cannot_be_is_refused_with_a_code(
    gateway: RunningGateway, asked: dict[str, Any], code: int
) -> None:
    async with talking(gateway, token_of(1, "Ann")) as client:
        answer = await client.ask("subscribe", **asked)
        assert answer["error"]["code"] == code
        assert "error" not in await client.ask("subscribe", channel=a_channel()), "it goes on"


async def test_subscribing_twice_or_too_often_is_refused(gateway: RunningGateway) -> None:
    async with talking(gateway, token_of(1, "Ann")) as client:
        channels = [a_channel() for _ in range(4)]  # and the personal one
        for channel in channels:
            assert "error" not in await client.ask("subscribe", channel=channel)
        assert (await client.ask("subscribe", channel=channels[0]))["error"]["code"] == 105
        assert (await client.ask("subscribe", channel="#1"))["error"]["code"] == 105
        assert (await client.ask("subscribe", channel=a_channel()))["error"]["code"] == 106
        assert await client.ask("unsubscribe", channel=channels[0]) == {}
        assert await client.ask("unsubscribe", channel=channels[0]) == {}
        assert "error" not in await client.ask("subscribe", channel=a_channel())


async def test_nothing_of_a_channel_comes_after_the_unsubscribe_was_answered(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    left, kept = a_channel(), a_channel()
    async with talking(gateway, token_of(1, "Ann")) as client:
        for channel in (left, kept):
            await client.ask("subscribe", channel=channel)
        await client.ask("unsubscribe", channel=left)
        await publish(publisher, parse_channel(left), "not for you")
        await publish(publisher, parse_channel(kept), "for you")
        assert (await client.push())["pub"]["data"] == "for you"


async def test_who_comes_back_to_another_gateway_is_answered_with_all_it_missed(
    gateway: RunningGateway, other: RunningGateway, publisher: Publisher
) -> None:
    channel = a_channel()
    async with talking(gateway, token_of(1, "Ann")) as client:
        subscribed = await client.ask("subscribe", channel=channel, recoverable=True)
        first = (await publish(publisher, parse_channel(channel), 0)).offset
        assert (await client.publication(channel))["offset"] == first
    async with talking(other, token_of(2, "Ben")) as watcher:
        await watcher.ask("subscribe", channel=channel)
        for number in range(1, 4):
            await publish(publisher, parse_channel(a_channel()), "elsewhere")
            await publish_seen(watcher, publisher, parse_channel(channel), number)
    async with talking(other, token_of(1, "Ann")) as client:
        again = await client.ask(
            "subscribe", channel=channel, recover=True, offset=first, epoch=subscribed["epoch"]
        )
        assert [each["data"] for each in again["publications"]] == [1, 2, 3]
        assert again["offset"] == first
        assert again["recovered"] is again["was_recovering"] is True
        await publish(publisher, parse_channel(channel), 4)
        assert (await client.publication(channel))["data"] == 4


@pytest.mark.parametrize("flag", [0, 2])
@pytest.mark.parametrize("wrong", [{"epoch": "_"}, {"offset": 2**40}])
async def test_a_position_that_cannot_be_recovered_is_told_honestly(
    gateway: RunningGateway, publisher: Publisher, wrong: dict[str, Any], flag: int
) -> None:
    channel = a_channel()
    async with talking(gateway, token_of(1, "Ann")) as client:
        await client.ask("subscribe", channel=channel)
        [offset] = await publish_seen(client, publisher, parse_channel(channel), 1)
        await client.ask("unsubscribe", channel=channel)
        asked = {"channel": channel, "recover": True, "offset": offset, "flag": flag} | wrong
        answer = await client.ask("subscribe", **asked)
        if flag:
            assert answer["error"]["code"] == 112
            assert "error" not in await client.ask("subscribe", channel=channel)
        else:
            assert "recovered" not in answer
            assert "publications" not in answer
            assert answer["was_recovering"] is True
            assert answer["offset"] >= offset


async def test_more_than_the_channel_keeps_is_not_recovered(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    channel = parse_channel(a_channel("small"))
    async with talking(gateway, token_of(1, "Ann")) as client:
        await client.ask("subscribe", channel=channel)
        stored = await publish_seen(client, publisher, channel, *range(4))
        await client.ask("unsubscribe", channel=channel)
        asked = {"channel": channel, "recover": True}
        none = await client.ask("subscribe", **asked, offset=stored[0])
        assert "recovered" not in none
        await client.ask("unsubscribe", channel=channel)
        two = await client.ask("subscribe", **asked, offset=stored[1])
        assert [each["data"] for each in two["publications"]] == [2, 3]


@pytest.mark.parametrize("asked", [{}, {"recover": True, "offset": 1}])
async def test_of_a_cache_the_newest_stands_for_all_that_was_missed(
    gateway: RunningGateway, publisher: Publisher, asked: dict[str, Any]
) -> None:
    channel = parse_channel(a_channel("cache"))
    async with talking(gateway, token_of(1, "Ann")) as client:
        assert "publications" not in await client.ask("subscribe", channel=channel, **asked)
        await publish_seen(client, publisher, channel, *range(3))
        await client.ask("unsubscribe", channel=channel)
        answer = await client.ask("subscribe", channel=channel, **asked)
        [newest] = answer["publications"]
        assert (newest["data"], answer["recovered"]) == (2, True)
        await publish(publisher, channel, 3)
        assert (await client.publication(channel))["data"] == 3


async def test_nobody_is_sent_again_the_newest_of_a_cache(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    channel = parse_channel(a_channel("cache"))
    async with talking(gateway, token_of(1, "Ann")) as client:
        epoch = (await client.ask("subscribe", channel=channel))["epoch"]
        before, newest = await publish_seen(client, publisher, channel, 0, 1)
        seen = []
        for offset in (before, newest, newest + 1):  # that is a position in another channel's
            await client.ask("unsubscribe", channel=channel)
            answer = await client.ask(
                "subscribe", channel=channel, recover=True, offset=offset, epoch=epoch
            )
            assert (answer["recovered"], answer["offset"]) == (True, offset)
            seen.append([each["data"] for each in answer.get("publications", ())])

    assert seen == [[1], [], []]


async def test_an_offset_of_a_stream_that_is_gone_keeps_nothing_of_a_cache_back(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    channel = parse_channel(a_channel("cache"))
    gone = {"recover": True, "offset": 10**9, "epoch": "another"}
    async with talking(gateway, token_of(1, "Ann")) as client:
        for number in range(2):
            answer = await client.ask("subscribe", channel=channel, **gone)
            assert len(answer.get("publications", ())) == number
            assert answer["offset"] < 10**9
            await publish(publisher, channel, number)
            assert (await client.publication(channel))["data"] == number
            await client.ask("unsubscribe", channel=channel)


async def test_the_personal_channel_recovers_with_the_connect(
    other: RunningGateway, publisher: Publisher
) -> None:
    user = 1_000_000 + hash(a_room()) % 1_000_000
    personal = personal_channel(UserId(str(user)))
    async with talking(other, token_of(user, "Ann")) as watcher:
        first, _ = await publish_seen(watcher, publisher, personal, 0, 1)
    async with talk(other) as client:
        held = {personal: {"recover": True, "offset": first}}
        connected = await client.ask("connect", token=token_of(user, "Ann"), subs=held)
        [missed] = connected["subs"][personal]["publications"]
        assert missed["data"] == 1
        await publish(publisher, personal, 2)
        assert (await client.publication(personal))["data"] == 2


@pytest.mark.parametrize("held", [{}, {"recover": True, "offset": 1}])
async def test_the_newest_of_a_cache_comes_with_the_connect(
    nats_url: str, gateway: RunningGateway, publisher: Publisher, held: dict[str, Any]
) -> None:
    channel = parse_channel(a_channel("cache"))
    async with talking(gateway, token_of(1, "Ann")) as watcher:
        await watcher.ask("subscribe", channel=channel)
        await publish_seen(watcher, publisher, channel, *range(3))
    below_its_ring = SETTINGS | {"ring_messages": 1}
    async with a_gateway(nats_url, settings=below_its_ring) as forgetful:
        for each in (gateway, forgetful):
            async with talk(each) as client:
                token, subs = token_of(1, "Ann"), {channel: held}
                connected = await client.ask("connect", token=token, subs=subs)
                [newest] = connected["subs"][channel]["publications"]
                assert (newest["data"], connected["subs"][channel]["recovered"]) == (2, True)


async def test_what_is_replayed_is_charged_to_its_user(nats_url: str, publisher: Publisher) -> None:
    may = {"user_units_per_second": 0.001, "user_burst": CONNECT_UNITS + 10}
    channel = parse_channel(a_channel("news"))
    async with (
        a_gateway(nats_url, settings=SETTINGS | may) as gateway,
        talking(gateway, token_of(1, "Ann")) as client,
        talking(gateway, token_of(2, "Ben")) as watcher,
    ):
        await watcher.ask("subscribe", channel=channel)
        first, *_ = await publish_seen(watcher, publisher, channel, *range(41))
        recover = {"channel": channel, "recover": True, "offset": first}
        page = {"channel": channel, "limit": 60}
        answers = [
            await client.ask("subscribe", **recover),
            await client.ask("history", **page),
            await client.ask("history", **page),
            await client.ask("unsubscribe", channel=channel),
            await client.ask("subscribe", **recover),
        ]

    assert [len(each.get("publications", ())) for each in answers] == [40, 41, 0, 0, 0]
    codes = [each.get("error", {}).get("code") for each in answers]
    assert codes == [None, None, 111, None, 111]


async def test_only_publications_with_the_tags_are_seen(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    channel = a_channel("tagged")
    async with (
        talking(gateway, token_of(1, "Ann")) as some,
        talking(gateway, token_of(2, "Ben")) as everything,
    ):
        tf = {"key": "team", "cmp": "eq", "val": "red"}
        assert "error" not in await some.ask("subscribe", channel=channel, tf=tf)
        await everything.ask("subscribe", channel=channel)
        for team in ("blue", "red"):
            payload = json.dumps({"data": team, "tags": {"team": team}}).encode()
            await publisher.publish(f"rt.pub.{channel}", payload, message_id=a_room())
        assert (await some.publication(channel))["data"] == "red"
        assert (await everything.publication(channel))["data"] == "blue"


async def test_a_subscription_with_delta_is_sent_one_whole_and_then_patches(
    gateway: RunningGateway,
) -> None:
    channel = a_channel("delta")
    async with talking(gateway, token_of(1, "Ann")) as client:
        answer = await client.ask("subscribe", channel=channel, delta="fossil")
        assert answer["delta"] is True
        came = []
        for number in range(3):  # one after another: those of one turn would all be whole
            await client.ask("publish", channel=channel, data={"n": number, "pad": "x" * 100})
            came.append(await client.publication(channel))

    assert [each.get("delta", False) for each in came] == [False, True, True]
    assert json.loads(came[0]["data"]) == {"n": 0, "pad": "x" * 100}
    assert all(len(each["data"]) < 50 for each in came[1:])


async def test_presence_shows_connections_and_who_leaves_is_gone_at_once(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    channel = a_channel()
    async with talking(gateway, token_of(1, "Ann")) as ann:
        await ann.ask("subscribe", channel=channel)
        [(client_id, info)] = (await ann.ask("presence", channel=channel))["presence"].items()
        assert info == {"user": "1", "client": client_id}
        async with talking(other, token_of(1, "Ann")) as second:
            await second.ask("subscribe", channel=channel)
            stats = await second.ask("presence_stats", channel=channel)
            assert stats == {"num_clients": 2, "num_users": 1}
            await second.ask("unsubscribe", channel=channel)
        assert "error" in await ann.ask("presence", channel=a_channel("tagged"))


@pytest.mark.parametrize("others", [0, 1])
async def test_who_left_does_not_count_itself(gateway: RunningGateway, others: int) -> None:
    channel = a_channel("seen")
    async with talking(gateway, token_of(1, "Ann")) as ann, AsyncExitStack() as stack:
        for _ in range(others):
            second = await stack.enter_async_context(talking(gateway, token_of(1, "Ann")))
            await second.ask("subscribe", channel=channel)
        await ann.ask("subscribe", channel=channel)
        before = await ann.ask("presence_stats", channel=channel)
        await ann.ask("unsubscribe", channel=channel)
        after = await ann.ask("presence_stats", channel=channel)

    assert before == {"num_clients": 1 + others, "num_users": 1}
    assert after == {"num_clients": others, "num_users": others}


async def test_presence_costs_by_how_many_are_there(nats_url: str) -> None:
    may = {"user_units_per_second": 0.001, "user_burst": CONNECT_UNITS + (1 + 2) + (1 + 1)}
    channel = a_channel("seen")
    async with (
        a_gateway(nats_url, settings=SETTINGS | may) as gateway,
        talking(gateway, token_of(1, "Ann")) as ann,
        AsyncExitStack() as others,
    ):
        for user in range(2, PUBLICATIONS_A_UNIT + 3):
            client = await others.enter_async_context(talking(gateway, token_of(user, "Ben")))
            await client.ask("subscribe", channel=channel)
            await client.ask("presence_stats", channel=channel)  # which waits until it is there
        answers = [await ann.ask("presence", channel=channel) for _ in range(2)]

    assert len(answers[0]["presence"]) == PUBLICATIONS_A_UNIT + 1
    assert answers[1]["error"]["code"] == 111


async def test_history_costs_by_its_bytes_too(nats_url: str, publisher: Publisher) -> None:
    cost = 1 + 1 + 2  # the command, up to 20 publications, twice 16 KiB
    may = {"user_units_per_second": 0.001, "user_burst": CONNECT_UNITS + 1 + cost + cost - 1}
    channel = parse_channel(a_channel("news"))
    async with (
        a_gateway(nats_url, settings=SETTINGS | may) as gateway,
        talking(gateway, token_of(1, "Ann")) as client,
    ):
        await client.ask("subscribe", channel=channel)
        await publish_seen(client, publisher, channel, "x" * (2 * ANSWERED_BYTES_A_UNIT))
        answers = [await client.ask("history", channel=channel, limit=1) for _ in range(2)]

    assert len(answers[0]["publications"]) == 1
    assert answers[1]["error"]["code"] == 111


async def test_history_is_read_in_pages(gateway: RunningGateway, publisher: Publisher) -> None:
    channel = a_channel()
    async with talking(gateway, token_of(1, "Ann")) as client:
        await client.ask("subscribe", channel=channel)
        offsets = await publish_seen(client, publisher, parse_channel(channel), *range(5))
        position = await client.ask("history", channel=channel)
        assert position["publications"] == []
        assert position["offset"] >= offsets[-1]
        page = await client.ask("history", channel=channel, limit=2)
        assert [each["data"] for each in page["publications"]] == [0, 1]
        since = {"offset": page["publications"][-1]["offset"], "epoch": page["epoch"]}
        page = await client.ask("history", channel=channel, limit=-1, since=since)
        assert [each["data"] for each in page["publications"]] == [2, 3, 4]
        page = await client.ask("history", channel=channel, limit=2, reverse=True)
        assert [each["data"] for each in page["publications"]] == [4, 3]
        bad = await client.ask("history", channel=channel, limit=2, since=since | {"epoch": "bad"})
        assert bad["error"]["code"] == 112


async def test_what_is_not_there_says_so(gateway: RunningGateway) -> None:
    async with talking(gateway, token_of(1, "Ann")) as client:
        assert (await client.ask("rpc", method="x"))["error"]["code"] == 108
        assert (await client.ask("publish", channel="post:1", data=1))["error"]["code"] == 102
        assert (await client.ask("publish", channel=a_channel("off"), data=1))["error"][
            "code"
        ] == 103
        assert (await client.ask("publish", channel=a_channel()))["error"]["code"] == 107
        await client.say({"send": {"data": 1}})
        assert await client.closed() == (3508, "not available")


async def test_a_token_is_refreshed_and_another_users_is_not(gateway: RunningGateway) -> None:
    async with talking(gateway, token_of(1, "Ann", seconds=60)) as client:
        renewed = await client.ask("refresh", token=token_of(1, "Ann", seconds=600))
        assert renewed["expires"] is True
        assert 500 < renewed["ttl"] <= 600
        await client.say({"id": 99, "refresh": {"token": token_of(2, "Ben")}})
        assert await client.closed() == (3500, "invalid token")


async def test_a_refresh_with_a_token_that_is_over_closes_so_that_it_comes_back(
    gateway: RunningGateway,
) -> None:
    async with talking(gateway, token_of(1, "Ann")) as client:
        await client.say({"id": 99, "refresh": {"token": token_of(1, "Ann", seconds=-5)}})
        assert await client.closed() == (3005, "connection expired")


async def test_a_revoked_session_ends_the_connection_for_good(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    session = SessionId(a_room())
    revoked = SessionRevoked(session_id=session, user_id=UserId("1"))
    async with talking(gateway, token_of(1, "Ann", sid=session)) as client:
        await publisher.publish(
            SESSION_REVOKED_SUBJECT, revoked.model_dump_json().encode(), message_id=revoked.id
        )
        assert await client.closed() == (3500, "invalid token")


async def test_a_drain_asks_clients_to_come_back(gateway: RunningGateway) -> None:
    async with talking(gateway, token_of(1, "Ann")) as client:
        await gateway.parts.drain()
        assert await client.closed() == (3001, "shutdown")


async def test_a_flood_of_commands_is_refused_and_then_ended(nats_url: str) -> None:
    limits = {"commands_per_second": 0.001, "command_burst": 3, "max_rate_refusals": 2}
    async with (
        a_gateway(nats_url, settings=SETTINGS | limits) as gateway,
        talking(gateway, token_of(1, "Ann")) as client,
    ):
        codes = [(await client.ask("rpc", method="x"))["error"]["code"] for _ in range(5)]
        assert codes == [108, 108, 108, 111, 111]
        await client.say({"id": 99, "rpc": {"method": "x"}})
        assert await client.closed() == (3013, "too many requests")


async def test_pings_come_as_the_protocol_has_them_and_a_pong_keeps_it_open(nats_url: str) -> None:
    limits = {"ping_seconds": 0.5, "pong_seconds": 1}
    async with (
        a_gateway(nats_url, settings=limits) as gateway,
        talking(gateway, token_of(1, "Ann")) as client,
    ):
        for _ in range(2):
            assert json.loads(await client.socket.recv()) == {}
            await client.socket.send("{}")
