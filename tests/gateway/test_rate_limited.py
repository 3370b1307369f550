"""What a tab hears that sends too fast, over real sockets."""

import secrets
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.session.rate import CONNECT_UNITS, PUBLICATIONS_A_UNIT, units_of_replay
from tests.gateway.chatting import Message, RunningGateway, Tab, a_gateway, a_room, token_of

SLOW: dict[str, Any] = {"commands_per_second": 0.001, "command_burst": 2, "max_rate_refusals": 3}


async def say(tab: Tab, *ids: str) -> None:
    for each in ids:
        await tab.send(type="message", body=each, id=each)


async def answers(tab: Tab, count: int) -> list[Message]:
    """The next answers to commands, without what is pushed meanwhile."""
    got: list[Message] = []
    while len(got) < count:
        message = await tab.get()
        if message["type"] in {"ack", "error", "pong"}:
            got.append(message)
    return got


async def test_what_comes_too_fast_is_refused_by_its_id_and_not_executed(nats_url: str) -> None:
    room = a_room()
    async with (
        a_gateway(nats_url, settings=SLOW) as gateway,
        gateway.tab(1, "Ann", room) as ann,
        gateway.tab(2, "Ben", room) as ben,
    ):
        await say(ann, "one", "two", "three")
        await ann.send(type="ping")
        await ann.send(type="nonsense", id="four")
        got = await answers(ann, 5)
        await say(ben, "end")

        assert [(a["type"], a.get("id"), a.get("code")) for a in got] == [
            ("ack", "one", None),
            ("ack", "two", None),
            ("error", "three", "rate_limited"),
            ("error", None, "rate_limited"),
            ("error", "four", "rate_limited"),
        ]
        said = await ben.all_until("message", body="end")
        assert [m["body"] for m in said if m["type"] == "message"] == ["one", "two"]
        assert gateway.metric("hubbub_errors_total", code="rate_limited") == 3


async def test_who_goes_on_and_on_is_sent_away_and_nobody_else_is(nats_url: str) -> None:
    room = a_room()
    async with (
        a_gateway(nats_url, settings=SLOW) as gateway,
        gateway.tab(1, "Ann", room) as ann,
        gateway.tab(2, "Ben", room) as ben,
    ):
        for _ in range(2 + 3 + 1):
            await ann.send(type="ping")

        assert await ann.closed() == (1008, "Rate limit")
        await say(ben, "still here")
        await ben.until("ack", id="still here")


async def test_who_slows_down_is_heard_again(nats_url: str) -> None:
    settings = {"commands_per_second": 5, "command_burst": 1, "max_rate_refusals": 1_000_000}
    async with (
        a_gateway(nats_url, settings=settings) as gateway,
        gateway.tab(1, "Ann", a_room()) as ann,
    ):
        kinds: list[str] = []
        while "error" not in kinds:
            await say(ann, *"abc")
            kinds += [answer["type"] for answer in await answers(ann, 3)]
        while kinds[-1] != "ack":  # each try after the answer to the one before
            await say(ann, "again")
            kinds.append((await answers(ann, 1))[0]["type"])


@pytest.mark.parametrize("by_message", [False, True])
async def test_welcome_comes_before_any_refusal(nats_url: str, by_message: bool) -> None:
    token = token_of(1, "Ann")
    query: dict[str, Any] = {"room": a_room()} | ({} if by_message else {"token": token})
    async with a_gateway(nats_url, settings=SLOW) as gateway, gateway.socket(**query) as tab:
        if by_message:  # and this one takes nothing out of the bucket
            await tab.send(type="auth", token=token)
        await say(tab, "one", "two", "three")

        assert (await tab.get())["type"] == "welcome"
        assert [answer["type"] for answer in await answers(tab, 3)] == ["ack", "ack", "error"]


async def test_as_it_comes_a_burst_of_a_hundred_passes(gateway: RunningGateway) -> None:
    async with gateway.tab(1, "Ann", a_room()) as ann:
        for _ in range(99):
            await ann.send(type="ping")
        await say(ann, "last")

        assert {answer["type"] for answer in await answers(ann, 100)} == {"pong", "ack"}


def a_user_who_may(burst: int) -> dict[str, Any]:
    return {"user_units_per_second": 0.001, "user_burst": burst}


async def test_a_new_connection_is_no_new_bucket(nats_url: str) -> None:
    room = a_room()
    may = a_user_who_may(CONNECT_UNITS + 2 + CONNECT_UNITS)
    async with (
        a_gateway(nats_url, settings=may) as gateway,
        gateway.tab(2, "Ben", room) as ben,
    ):
        async with gateway.tab(1, "Ann", room) as ann:
            await say(ann, "one", "two")
            await answers(ann, 2)
        async with gateway.tab(1, "Ann", room) as ann:
            await say(ann, "three")
            [refused] = await answers(ann, 1)
            assert (refused["id"], refused["code"]) == ("three", "rate_limited")

            async with gateway.socket(token=token_of(1, "Ann"), room=room) as again:
                assert await again.closed() == (1008, "Rate limit")
            await say(ben, "end")

            said = await ben.all_until("message", body="end")
            assert [m["body"] for m in said if m["type"] == "message"] == ["one", "two"]
        assert gateway.metric("hubbub_connections_refused_total", reason="rate_limit") == 1


async def test_a_long_message_costs_its_user_more_than_a_short_one(nats_url: str) -> None:
    may = a_user_who_may(CONNECT_UNITS + 17 + 1)  # 4,096 bytes are 1 and 16 times 256
    async with (
        a_gateway(nats_url, settings=may) as gateway,
        gateway.tab(1, "Ann", a_room()) as ann,
    ):
        await ann.send(type="message", id="long", body="🐝" * 1024)
        await ann.send(type="message", id="as long", body="x" * 4096)
        await say(ann, "short", "too much")
        got = await answers(ann, 4)

        assert [(a["type"], a["id"]) for a in got] == [
            ("ack", "long"),
            ("error", "as long"),
            ("ack", "short"),
            ("error", "too much"),
        ]


async def test_a_replay_is_paid_for_before_it_is_read(nats_url: str) -> None:
    room = a_room()
    missed = [str(number) for number in range(PUBLICATIONS_A_UNIT)]
    may = a_user_who_may(CONNECT_UNITS + 2 + CONNECT_UNITS + 1)
    async with (
        a_gateway(nats_url) as elsewhere,
        elsewhere.tab(2, "Ben", room) as ben,
        a_gateway(nats_url, settings=may) as gateway,
    ):
        since, epoch = await ben.pong(), ben.welcome["epoch"]
        await ben.say(*missed, "one more")
        back: dict[str, Any] = {"token": token_of(1, "Ann"), "room": room, "epoch": epoch}

        async with gateway.socket(**back, since=since) as ann:  # 21 of them are 2 units
            assert await ann.until("message", body="one more")
        async with gateway.socket(**back, since=since) as ann:
            got, close = await ann.closed_after()
        assert (got, close) == ([], (1008, "Rate limit"))


async def test_history_is_paid_for_as_a_replay_is(nats_url: str) -> None:
    may = a_user_who_may(CONNECT_UNITS + units_of_replay(100))
    async with a_gateway(nats_url, settings=may) as gateway:
        query: dict[str, Any] = {"token": token_of(1, "Ann"), "room": a_room()}
        async with gateway.socket(**query, history=100) as ann:
            assert (await ann.get())["type"] == "welcome"
        async with gateway.socket(**query) as ann:
            assert await ann.closed() == (1008, "Rate limit")


async def test_as_it_comes_ten_tabs_of_a_user_come_back_and_speak_at_once(
    gateway: RunningGateway,
) -> None:
    room = a_room()
    async with AsyncExitStack() as held:
        tabs = [
            await held.enter_async_context(gateway.tab(1, "Ann", room, history=50))
            for _ in range(10)
        ]
        for tab in tabs:
            await say(tab, *(secrets.token_hex(4) for _ in range(20)))

        assert {answer["type"] for tab in tabs for answer in await answers(tab, 20)} == {"ack"}
