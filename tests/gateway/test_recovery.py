"""Coming back: what was missed comes in order and once, or it is said that it can't."""

import asyncio
import json
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest

from hubbub_client.contracts.channels import personal_channel, room_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import NatsServer
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.serving import until


async def test_what_was_missed_comes_on_another_gateway_between_welcome_and_live(
    gateway: RunningGateway, other: RunningGateway, publisher: Publisher
) -> None:
    room = a_room()
    async with gateway.tab(201, "Ann", room) as ann:
        await ann.say("seen")
        since = await ann.pong()
    async with gateway.tab(202, "Ben", room) as ben:
        await ben.say("one", "two")
        liked = {"event": "post_liked", "id": "e"}
        await publish(publisher, personal_channel(UserId("201")), liked)
        await publish(publisher, room_channel("another"), "not for Ann")
        last = await ben.say("three")
        place = {"since": since, "epoch": ann.welcome["epoch"]}
        async with other.tab(201, "Ann", room, **place) as back:
            assert back.welcome["offset"] == since
            missed = [await back.get() for _ in range(4)]
            await ben.say("live")
            assert (await back.get())["body"] == "live"
            assert await back.so_far() == []

    assert [m.get("body") or m["event"] for m in missed] == ["one", "two", "post_liked", "three"]
    assert missed[-1]["offset"] == last
    offsets = [message["offset"] for message in missed]
    assert offsets == sorted(set(offsets))


async def test_who_missed_nothing_is_told_nothing(gateway: RunningGateway) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        last = await ann.say("seen")
    async with gateway.tab(1, "Ann", room, since=last, history=10) as back:
        assert back.welcome["offset"] == last
        assert await back.so_far() == []


@pytest.mark.parametrize(
    ("since", "reason"),
    [
        ({"since": "abc"}, "malformed"),
        ({"since": "-1"}, "malformed"),
        ({"since": str(2**62)}, "ahead"),
        ({"since": "1", "epoch": "another"}, "epoch"),
    ],
)
async def test_where_it_cannot_be_had_it_is_said_in_place_of_the_replay(
    gateway: RunningGateway, since: dict[str, str], reason: str
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        last = await ann.say("one", "two", "three")
        async with gateway.tab(2, "Ben", room, **since) as ben:
            assert ben.welcome["offset"] >= last
            assert await ben.get() == {"type": "reset", "reason": reason}
            await ann.say("live")
            assert (await ben.get())["body"] == "live"
        async with gateway.tab(3, "Cem", room, **since, history=2) as cem:
            assert await cem.get() == {"type": "reset", "reason": reason}
            assert [(await cem.get())["body"] for _ in range(2)] == ["three", "live"]
    assert gateway.metric("hubbub_resets_total") == 2


async def test_more_than_the_limit_is_not_replayed(nats_url: str, bus: Bus) -> None:
    room = a_room()
    async with (
        a_gateway(nats_url, settings={"replay_limit": 3}) as gateway,
        gateway.tab(1, "Ann", room) as ann,
    ):
        since = ann.welcome["offset"]
        await ann.say("one", "two", "three")
        async with gateway.tab(2, "Ben", room, since=since) as ben:
            assert [(await ben.get())["body"] for _ in range(3)] == ["one", "two", "three"]
        await ann.say("four")
        async with gateway.tab(2, "Ben", room, since=since) as ben:
            assert await ben.get() == {"type": "reset", "reason": "too_many"}


async def test_what_the_stream_no_longer_holds_is_too_old(
    nats_server: Callable[[], NatsServer],
) -> None:
    server, room = nats_server(), a_room()
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        async with a_gateway(server.url) as gateway, gateway.tab(1, "Ann", room) as ann:
            since = await ann.say("one")
            last = await ann.say("two", "three")
        await request(bus, "STREAM.PURGE.RT", {"seq": last})
        async with a_gateway(server.url) as gateway:
            async with gateway.tab(1, "Ann", room, since=since) as back:
                assert await back.get() == {"type": "reset", "reason": "too_old"}
            async with gateway.tab(1, "Ann", room, since=last - 1) as back:
                assert (await back.get())["body"] == "three"


async def request(bus: Bus, what: str, payload: dict[str, Any]) -> None:
    answer = await bus.request(f"$JS.API.{what}", json.dumps(payload).encode(), timeout_seconds=20)
    assert "error" not in json.loads(answer)


async def test_a_stream_that_begins_anew_is_told_to_everybody_who_is_there(
    nats_server: Callable[[], NatsServer],
) -> None:
    server, room = nats_server(), a_room()
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        async with a_gateway(server.url) as gateway:
            async with gateway.tab(1, "Ann", room) as ann:
                await ann.say("one", "two", "three")
            async with gateway.tab(1, "Ann", room) as ann:
                assert ann.welcome["offset"] == 3
                await request(bus, "STREAM.DELETE.RT", {})
                await bootstrap(bus)
                await ann.send(type="message", body="first")  # its offset was given before: a doubt
                assert (await ann.until("reset"))["reason"] == "epoch"
                await until(lambda: not gateway.parts.ready())
                await ann.send(type="message", body="second")
                assert (await ann.until("message", body="second"))["offset"] == 2
                async with gateway.tab(2, "Ben", room) as ben:
                    assert ben.welcome["offset"] == 2
                    assert ben.welcome["epoch"] != ann.welcome["epoch"]


async def test_a_tab_that_lags_while_the_stream_begins_anew_is_told_of_the_hole(
    nats_server: Callable[[], NatsServer],
) -> None:
    server, room = nats_server(), a_room()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        async with (
            a_gateway(server.url, settings={"max_pending_bytes": 50_000}) as gateway,
            gateway.tab(1, "Ann", room) as ann,
            gateway.socket(token=token_of(2, "Ben"), room=room, receive_buffer_bytes=4096) as ben,
        ):
            await ben.until("welcome")
            ben.socket.transport.pause_reading()
            old = 0
            while not gateway.metric("hubbub_lagging_total"):
                old += 1
                await publish(publisher, room_channel(room), ["old", "x" * 60_000])
            await ann.pong()
            await request(bus, "STREAM.DELETE.RT", {})
            await bootstrap(bus)
            for number in range(old + 5):  # so that Ben's place is one in the new stream too
                await publish(publisher, room_channel(room), ["new", number])
            await ann.until("reset")
            await until(lambda: not gateway.parts.ready())

            ben.socket.transport.resume_reading()
            assert {each["data"][0] for each in await ben.all_until("reset")} == {"old"}
            live = await publish(publisher, room_channel(room), ["new", "live"])
            assert (await ben.until("publication", data=["new", "live"]))["offset"] == live.offset


@pytest.mark.parametrize(("wanted", "got"), [(0, []), (2, ["b", "c"]), (99, ["a", "b", "c"])])
async def test_a_newcomer_gets_as_much_history_as_it_asks_for(
    gateway: RunningGateway, publisher: Publisher, wanted: int, got: list[str]
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        last = await ann.say("a", "b", "c")
        await publish(publisher, personal_channel(UserId("2")), {"event": "old"})
        async with gateway.tab(2, "Ben", room, history=wanted) as ben:
            assert ben.welcome["offset"] >= last
            await ann.say("live")
            replayed = await ben.all_until("message", body="live")
            assert [message["body"] for message in replayed] == got


async def test_a_tab_that_dies_in_mid_replay_loses_nothing(gateway: RunningGateway) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        since = ann.welcome["offset"]
        await ann.say(*"abc")
        async with gateway.tab(2, "Ben", room, since=since) as ben:
            since = ben.welcome["offset"]  # and dies, having read no more
        async with gateway.tab(2, "Ben", room, since=since) as ben:
            assert [(await ben.get())["body"] for _ in range(3)] == list("abc")


async def test_a_pong_never_lies_about_what_was_sent(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        since = ann.welcome["offset"]
        for number in range(900):
            await publish(publisher, room_channel(room), [number, "x" * 500])
        async with gateway.tab(2, "Ben", room, since=since) as ben:
            for _ in range(50):  # they arrive while the replay is on its way
                await ben.send(type="ping")
            await ann.say("end")
            received = await ben.all_until("message", body="end")

    passed = since
    for message in received:
        if message["type"] == "pong":
            assert message["offset"] >= passed, "who resumes there hears some twice"
            passed = message["offset"]
        elif message["type"] == "publication":
            assert message["offset"] > passed, "who resumes there misses some"
            passed = message["offset"]
    assert [m["data"][0] for m in received if m["type"] == "publication"] == list(range(900))


async def test_a_tab_that_comes_and_goes_during_traffic_hears_everything_once(
    gateway: RunningGateway, other: RunningGateway, publisher: Publisher
) -> None:
    room, total = a_room(), 1500
    heard: list[int] = []

    async def talk() -> None:
        for number in range(total):
            await publish(publisher, room_channel(room), number)

    async with gateway.tab(1, "Ann", room) as ann:
        since = ann.welcome["offset"]
    gateways = cycle([gateway, other])
    token = token_of(1, "Ann")
    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        group.create_task(talk())
        while len(heard) < total:
            query = {"token": token, "room": room, "since": since}
            async with next(gateways).socket(**query) as tab:
                await tab.until("welcome")
                for _ in range(97):
                    if len(heard) == total:
                        break
                    message = await tab.get()
                    if message["type"] == "publication":
                        heard.append(message["data"])
                        since = message["offset"]
                    assert message["type"] != "reset"

    assert heard == list(range(total))
