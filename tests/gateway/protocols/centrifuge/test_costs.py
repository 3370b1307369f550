"""What a client may cost, whatever it asks for, and honest ones are not made to pay."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.channels.options import Namespace
from gateway.session.rate import (
    ANSWERED_BYTES_A_UNIT,
    CONNECT_UNITS,
    PUBLICATIONS_A_UNIT,
    units_of_replay,
)
from gateway.transport.connection import Connection
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.jetstream.publisher import Publisher
from tests.gateway.chatting import RunningGateway, a_gateway, token_of
from tests.gateway.protocols.centrifuge.channels import SETTINGS as CHANNELS
from tests.gateway.protocols.centrifuge.channels import a_channel
from tests.gateway.protocols.centrifuge.talking import Message, Talk, publish_seen, talk, talking
from tests.gateway.serving import until

SETTINGS: dict[str, Any] = CHANNELS | {"channel_limit": 128}
ANYBODY: dict[str, Any] = {
    "allow_publish_for_client": True,
    "allow_subscribe_for_anonymous": True,
    "allow_publish_for_anonymous": True,
}
REFILLS_SLOWLY = {"user_units_per_second": 0.001}


async def replies(client: Talk, count: int) -> list[Message]:
    """The next ones, in whatever order."""
    found: list[Message] = []
    while len(found) < count:
        message = json.loads(await client.socket.recv())
        if "id" in message:
            found.append(message)
    return found


def the_connection(gateway: RunningGateway) -> Connection:
    (member,) = gateway.parts.manager.connections()
    connection = member.connection
    assert isinstance(connection, Connection)
    return connection


@asynccontextmanager
async def missing_much(
    nats_url: str, publisher: Publisher
) -> AsyncGenerator[tuple[RunningGateway, Talk, Message]]:
    """A client who has missed 600 KB, and how it asks for them."""
    channel = a_channel()
    async with (
        a_gateway(nats_url, settings=SETTINGS) as gateway,
        talking(gateway, token_of(1, "Ann")) as client,
    ):
        held = await client.ask("subscribe", channel=channel)
        await publish_seen(client, publisher, parse_channel(channel), *["x" * 60_000] * 10)
        await client.ask("unsubscribe", channel=channel)
        offset = held.get("offset", 0)
        yield gateway, client, {"channel": channel, "recover": True, "offset": offset}


async def test_each_command_of_a_message_is_charged_for_its_own_line(nats_url: str) -> None:
    may = REFILLS_SLOWLY | {"user_burst": CONNECT_UNITS + 60}
    asked = [{"id": 1, "connect": {"token": token_of(1, "Ann")}}]
    asked += [{"id": 2 + number, "subscribe": {"channel": a_channel()}} for number in range(60)]
    async with a_gateway(nats_url, settings=SETTINGS | may) as gateway, talk(gateway) as client:
        await client.say(*asked)
        answers = await replies(client, len(asked))

    assert [each for each in answers if "error" in each] == []


async def test_what_is_replayed_is_charged_to_its_user(nats_url: str, publisher: Publisher) -> None:
    may = REFILLS_SLOWLY | {"user_burst": CONNECT_UNITS + 10}
    channel = parse_channel(a_channel())
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


async def test_whoever_asks_for_too_many_channels_again_and_again_pays_for_that(
    nats_url: str,
) -> None:
    subs: Message = {a_channel(): {} for _ in range(SETTINGS["channel_limit"] + 1)}
    costs = CONNECT_UNITS + units_of_replay(len(subs))
    closes: list[tuple[int, str]] = []
    may = REFILLS_SLOWLY | {"user_burst": 2 * costs}
    async with a_gateway(nats_url, settings=SETTINGS | may) as gateway:
        for _ in range(3):
            async with talk(gateway) as client:
                connect = {"token": token_of(1, "Ann"), "subs": subs}
                await client.say({"id": 1, "connect": connect})
                closes.append(await client.closed())

    assert [code for code, _ in closes] == [3505, 3505, 3013]


async def test_presence_costs_by_how_many_are_there(nats_url: str) -> None:
    may = REFILLS_SLOWLY | {"user_burst": CONNECT_UNITS + (1 + 2) + (1 + 1)}
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
    may = REFILLS_SLOWLY | {"user_burst": CONNECT_UNITS + 1 + cost + cost - 1}
    channel = parse_channel(a_channel())
    async with (
        a_gateway(nats_url, settings=SETTINGS | may) as gateway,
        talking(gateway, token_of(1, "Ann")) as client,
    ):
        await client.ask("subscribe", channel=channel)
        await publish_seen(client, publisher, channel, "x" * (2 * ANSWERED_BYTES_A_UNIT))
        answers = [await client.ask("history", channel=channel, limit=1) for _ in range(2)]

    assert len(answers[0]["publications"]) == 1
    assert answers[1]["error"]["code"] == 111


async def test_no_command_is_executed_while_many_replies_are_unread(
    nats_url: str, publisher: Publisher
) -> None:
    async with missing_much(nats_url, publisher) as (gateway, client, recover):
        channel = recover["channel"]
        pairs: list[Message] = []
        for number in range(100, 140, 2):
            pairs.append({"id": number, "subscribe": recover})
            pairs.append({"id": number + 1, "unsubscribe": {"channel": channel}})

        client.socket.transport.pause_reading()
        await client.say(*pairs)
        connection = the_connection(gateway)
        await until(lambda: connection.leaves_replies_unread)
        assert connection.transport.get_write_buffer_size() < 2 * 1024 * 1024
        client.socket.transport.resume_reading()
        answers = await replies(client, len(pairs))

    assert [each["id"] for each in answers] == list(range(100, 140))
    recovered = [len(each["subscribe"]["publications"]) for each in answers[::2]]
    assert recovered == [10] * 20


async def test_who_leaves_while_commands_wait_costs_nothing_more(
    nats_url: str, publisher: Publisher
) -> None:
    async with missing_much(nats_url, publisher) as (gateway, client, recover):
        channel = recover["channel"]

        client.socket.transport.pause_reading()
        pair = {"id": 100, "subscribe": recover}, {"id": 101, "unsubscribe": {"channel": channel}}
        await client.say(*pair * 10)
        connection = the_connection(gateway)
        await until(lambda: connection.leaves_replies_unread)
        client.socket.transport.abort()
        await until(lambda: gateway.parts.manager.connection_count() == 0)

    assert gateway.metric("hubbub_connections_failed_total") == 0
    assert gateway.parts.manager.subscription_count() == 0


@pytest.mark.parametrize("ring_messages", [10_000, 1])
async def test_what_is_recovered_in_one_reply_is_bounded_in_bytes(
    nats_url: str, publisher: Publisher, ring_messages: int
) -> None:
    first, second = a_channel(), a_channel()
    may = {"recovery_max_bytes": 2_500, "ring_messages": ring_messages}
    async with (
        a_gateway(nats_url, settings=SETTINGS | may) as gateway,
        talking(gateway, token_of(2, "Ben")) as watcher,
    ):
        offsets = {}
        for channel in (first, second):
            await watcher.ask("subscribe", channel=channel)
            offsets[channel] = await publish_seen(
                watcher, publisher, parse_channel(channel), *["x" * 900] * 4
            )
        subs = {
            channel: {"recover": True, "offset": offsets[channel][1]} for channel in (first, second)
        }
        async with talk(gateway) as client:
            connected = await client.ask("connect", token=token_of(1, "Ann"), subs=subs)
            await client.ask("unsubscribe", channel=first)
            recover = {"channel": first, "recover": True, "offset": offsets[first][0]}
            too_much = await client.ask("subscribe", **recover)
            await client.ask("unsubscribe", channel=first)
            refused = await client.ask("subscribe", **recover, flag=2)

    held = [connected["subs"][channel] for channel in (first, second)]
    assert [len(each.get("publications", ())) for each in held] == [2, 0]
    assert [each.get("recovered") for each in held] == [True, None]
    assert "recovered" not in too_much
    assert too_much["offset"] >= offsets[second][-1]
    assert refused["error"]["code"] == 112


async def test_no_visitor_without_a_token_spends_what_others_have(nats_url: str) -> None:
    may = REFILLS_SLOWLY | {
        "user_burst": CONNECT_UNITS + 3,
        "user_ephemeral_units_per_second": 0.001,
        "user_ephemeral_burst": 2,
        "max_connections_per_user": 1,
        "allow_anonymous_connect_without_token": True,
        "namespaces": {"cursors": Namespace(**ANYBODY, ephemeral=True)},
    }
    async with a_gateway(nats_url, settings=may) as gateway, AsyncExitStack() as clients:
        for _ in range(3):
            client = await clients.enter_async_context(talk(gateway))
            assert "client" in await client.ask("connect")
            stored = [await client.ask("rpc") for _ in range(4)]
            pointers = [await client.ask("publish", channel="cursors:a", data=0) for _ in range(3)]
            assert [each["error"]["code"] for each in stored] == [108, 108, 108, 111]
            assert [each.get("error", {}).get("code") for each in pointers] == [None, None, 111]
