"""A client and its gateway, line by line."""

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from shared.tokens.claims import SessionId
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.protocols.centrifuge.channels import SETTINGS, a_channel
from tests.gateway.protocols.centrifuge.channels import gateway as gateway
from tests.gateway.protocols.centrifuge.channels import other as other
from tests.gateway.protocols.centrifuge.channels import standing as standing
from tests.gateway.protocols.centrifuge.talking import publish_seen, talk, talking

BAD_REQUEST = (3501, "bad request")


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
    standing: RunningGateway, message: str | bytes, close: tuple[int, str]
) -> None:
    async with talk(standing) as client:
        await client.socket.send(message)
        assert await client.closed() == close


async def test_who_says_nothing_is_sent_away_in_time(nats_url: str) -> None:
    async with (
        a_gateway(nats_url, settings={"auth_seconds": 0.3}) as gateway,
        talk(gateway) as client,
    ):
        assert await client.closed() == (3502, "stale")


async def test_a_second_connect_ends_the_connection(standing: RunningGateway) -> None:
    async with talking(standing, token_of(1, "Ann")) as client:
        await client.say({"id": 9, "connect": {"token": token_of(1, "Ann")}})
        assert await client.closed() == BAD_REQUEST


async def test_a_token_that_is_over_is_an_error_so_that_the_client_fetches_another(
    standing: RunningGateway,
) -> None:
    async with talk(standing) as client:
        answer = await client.ask("connect", token=token_of(1, "Ann", seconds=-5))
        assert answer == {"error": {"code": 109, "message": "token expired"}}


async def test_a_grant_that_is_over_is_an_error(standing: RunningGateway) -> None:
    async with talk(standing) as client:
        answer = await client.ask("connect", token=token_of(1, "Ann", expire_at=1))
        assert answer == {"error": {"code": 110, "message": "expired"}}


async def test_who_goes_on_after_an_error_to_its_connect_is_sent_away(
    standing: RunningGateway,
) -> None:
    over, subscribe = token_of(1, "Ann", seconds=-5), {"channel": a_channel()}
    async with talk(standing) as client:  # as SDKs do, which stop when they read the error
        await client.say({"id": 1, "connect": {"token": over}}, {"id": 2, "subscribe": subscribe})
        assert json.loads(await client.socket.recv())["error"]["code"] == 109
        await client.say({"id": 3, "subscribe": subscribe})
        assert await client.closed() == BAD_REQUEST


async def test_what_a_client_said_before_it_left_is_published(gateway: RunningGateway) -> None:
    channel, said = a_channel("tagged"), [{"n": number} for number in range(5)]
    async with talking(gateway, token_of(1, "Ann")) as listener:
        await listener.ask("subscribe", channel=channel)
        async with talking(gateway, token_of(2, "Ben")) as client:
            await client.ask("subscribe", channel=channel)
            publish = [{"channel": channel, "data": each} for each in said]
            await client.say(*({"id": 9, "publish": each} for each in publish))

        assert [(await listener.publication(channel))["data"] for _ in said] == said


async def test_a_client_that_answers_no_ping_is_told_so(nats_url: str) -> None:
    quick = {"ping_seconds": 1, "pong_seconds": 0.4}
    async with (
        a_gateway(nats_url, settings=quick) as gateway,
        talking(gateway, token_of(1, "Ann")) as client,
    ):
        assert await client.closed() == (3012, "no pong")


async def test_a_protobuf_client_is_told_no_for_good(standing: RunningGateway) -> None:
    async with talk(standing, "/connection/websocket?cf_protocol=protobuf") as client:
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
    standing: RunningGateway, asked: dict[str, Any], code: int
) -> None:
    async with talking(standing, token_of(1, "Ann")) as client:
        answer = await client.ask("subscribe", **asked)
        assert answer["error"]["code"] == code
        assert "error" not in await client.ask("subscribe", channel=a_channel()), "it goes on"


async def test_subscribing_twice_or_too_often_is_refused(standing: RunningGateway) -> None:
    async with talking(standing, token_of(1, "Ann")) as client:
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
    standing: RunningGateway, publisher: Publisher
) -> None:
    left, kept = a_channel(), a_channel()
    async with talking(standing, token_of(1, "Ann")) as client:
        for channel in (left, kept):
            await client.ask("subscribe", channel=channel)
        await client.ask("unsubscribe", channel=left)
        await publish(publisher, parse_channel(left), "not for you")
        await publish(publisher, parse_channel(kept), "for you")
        assert (await client.push())["pub"]["data"] == "for you"


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


async def test_history_is_read_in_pages(standing: RunningGateway, publisher: Publisher) -> None:
    channel = a_channel()
    async with talking(standing, token_of(1, "Ann")) as client:
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


async def test_what_is_not_there_says_so(standing: RunningGateway) -> None:
    async with talking(standing, token_of(1, "Ann")) as client:
        assert (await client.ask("rpc", method="x"))["error"]["code"] == 108
        assert (await client.ask("publish", channel="post:1", data=1))["error"]["code"] == 102
        assert (await client.ask("publish", channel=a_channel("off"), data=1))["error"][
            "code"
        ] == 103
        assert (await client.ask("publish", channel=a_channel()))["error"]["code"] == 107
        await client.say({"send": {"data": 1}})
        assert await client.closed() == (3508, "not available")


async def test_a_token_is_refreshed_and_another_users_is_not(standing: RunningGateway) -> None:
    async with talking(standing, token_of(1, "Ann", seconds=60)) as client:
        renewed = await client.ask("refresh", token=token_of(1, "Ann", seconds=600))
        assert renewed["expires"] is True
        assert 500 < renewed["ttl"] <= 600
        await client.say({"id": 99, "refresh": {"token": token_of(2, "Ben")}})
        assert await client.closed() == (3500, "invalid token")


async def test_a_refresh_with_a_token_that_is_over_closes_so_that_it_comes_back(
    standing: RunningGateway,
) -> None:
    async with talking(standing, token_of(1, "Ann")) as client:
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
