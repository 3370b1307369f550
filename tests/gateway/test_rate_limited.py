"""What a tab hears that sends too fast, over real sockets."""

from typing import Any

import pytest

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
    settings = {"commands_per_second": 20, "command_burst": 1, "max_rate_refusals": 1000}
    async with (
        a_gateway(nats_url, settings=settings) as gateway,
        gateway.tab(1, "Ann", a_room()) as ann,
    ):
        await say(ann, *"abc")
        kinds = [answer["type"] for answer in await answers(ann, 3)]
        while kinds[-1] != "ack":  # each try after the answer to the one before
            await say(ann, "again")
            kinds.append((await answers(ann, 1))[0]["type"])

        assert "error" in kinds


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
