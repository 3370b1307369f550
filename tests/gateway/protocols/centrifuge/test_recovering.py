"""What a client missed, as a gateway gives it to who comes back: all of it, the newest, or none."""

import json
from typing import Any

import pytest

from hubbub_client.contracts.channels import parse_channel, personal_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.protocols.centrifuge.channels import SETTINGS, a_channel
from tests.gateway.protocols.centrifuge.channels import gateway as gateway
from tests.gateway.protocols.centrifuge.channels import other as other
from tests.gateway.protocols.centrifuge.talking import publish_seen, talk, talking


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
