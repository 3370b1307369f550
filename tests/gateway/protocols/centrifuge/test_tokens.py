"""What a client may do by what its tokens say, and without one."""

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from tests.fixtures.issuers import an_issuer, ec_key, pem, signed
from tests.fixtures.tokens import SECRET
from tests.gateway.chatting import a_gateway, a_room, now, token_of
from tests.gateway.protocols.centrifuge.talking import Message, talk, talking
from tests.gateway.serving import DEADLINE_SECONDS
from tests.gateway.test_chat import KeysThatComeLate
from tests.gateway.test_emulation import a_client_of

OPEN = {"allow_subscribe_for_anonymous": True, "allow_publish_for_anonymous": True,
        "subscribe": "users", "publish": "users", "presence": True}  # fmt: skip


def a_token(**claims: Any) -> str:
    return signed({"sub": "ann", "exp": now() + 60} | claims, SECRET, "HS256")


async def test_who_came_without_a_token_says_what_an_anonymous_user_may(nats_url: str) -> None:
    settings = {"allow_anonymous_connect_without_token": True, "namespaces": {"open": OPEN}}
    channel = f"open:{a_room()}"
    async with a_gateway(nats_url, settings=settings) as gateway, talk(gateway) as client:
        connected = await client.ask("connect")
        await client.ask("subscribe", channel=channel)

        answer = await client.ask("publish", channel=channel, data={"text": "hi"})

        assert "expires" not in connected
        assert answer == {}
        assert (await client.publication(channel))["data"] == {"text": "hi"}


async def test_a_token_of_a_listed_issuer_subscribes_and_introduces_its_connection(
    nats_url: str,
) -> None:
    room = f"chat:{a_room()}"
    pinned = an_issuer(issuer="backend", public_key=pem(ec_key()), audience="chat")
    claims = {"iss": "backend", "aud": "chat", "sub": "ann", "exp": now() + 60, "expire_at": 0}
    grants = {"info": {"name": "Ann"}, "subs": {room: {"data": {"topic": "tea"}}}}
    async with (
        a_gateway(nats_url, issuers=[pinned]) as gateway,
        talk(gateway) as client,
    ):
        connected = await client.ask("connect", token=signed(claims | grants, ec_key(), "ES256"))
        present = await client.ask("presence", channel=room)

    assert "expires" not in connected
    assert connected["subs"][room]["data"] == {"topic": "tea"}
    assert present["presence"][connected["client"]]["conn_info"] == {"name": "Ann"}


async def test_a_token_without_end_is_taken_where_its_issuer_may_give_them(nats_url: str) -> None:
    for is_taken in (True, False):
        issuer = an_issuer(hmac_secret=SECRET, require_exp=not is_taken)
        async with a_gateway(nats_url, issuers=[issuer]) as gateway, talk(gateway) as client:
            if is_taken:
                assert "expires" not in await client.ask("connect", token=a_token(exp=None))
            else:
                await client.say({"id": 1, "connect": {"token": a_token(exp=None)}})
                assert await client.closed() == (3500, "invalid token")


async def test_a_subscription_token_opens_a_private_channel_to_whom_it_names(
    nats_url: str,
) -> None:
    channel = f"$chat:{a_room()}"
    issuer = an_issuer(hmac_secret=SECRET)
    async with (
        a_gateway(nats_url, issuers=[issuer]) as gateway,
        talking(gateway, a_token()) as client,
    ):

        async def subscribe(**claims: Any) -> Any:
            token = a_token(**{"channel": channel} | claims)
            return await client.ask("subscribe", channel=channel, token=token)

        assert (await client.ask("subscribe", channel=channel))["error"]["code"] == 103
        assert (await subscribe(exp=now() - 1))["error"]["code"] == 109
        assert (await subscribe(expire_at=now() - 1))["error"]["code"] == 110
        assert (await subscribe(channel=None))["error"]["code"] == 103
        granted = await subscribe(data={"from": "backend"}, expire_at=now() + 600)

        assert granted["data"] == {"from": "backend"}
        assert granted["expires"]
        assert 590 < granted["ttl"] <= 600


async def test_no_token_positions_a_subscription_to_what_is_not_kept(nats_url: str) -> None:
    """Nobody would be told of what a slow reader misses there."""
    namespaces = {"kept": {}, "bare": {"history": False}}
    positioned = {"override": {"force_positioning": {"value": True}}}
    async with (
        a_gateway(
            nats_url, settings={"namespaces": namespaces}, issuers=[an_issuer(hmac_secret=SECRET)]
        ) as gateway,
        talking(gateway, a_token()) as client,
    ):
        answers = {}
        for channel in (f"kept:{a_room()}", f"bare:{a_room()}"):
            token = a_token(channel=channel, **positioned)
            answers[channel[:4]] = await client.ask("subscribe", channel=channel, token=token)

    assert answers["kept"]["positioned"]
    assert {"positioned", "epoch", "offset"}.isdisjoint(answers["bare"])


@pytest.mark.parametrize(
    "claims", [{"sub": "ben"}, {"sub": None}, {"channel": "$chat:other"}, {"client": "another"}],
    ids=str,
)  # fmt: skip
async def test_a_subscription_token_of_another_ends_the_connection_for_good(
    nats_url: str, claims: dict[str, Any]
) -> None:
    channel = f"$chat:{a_room()}"
    async with (
        a_gateway(nats_url, issuers=[an_issuer(hmac_secret=SECRET)]) as gateway,
        talking(gateway, a_token()) as client,
    ):
        token = a_token(**{"channel": channel} | claims)
        await client.say({"id": 2, "subscribe": {"channel": channel, "token": token}})

        assert await client.closed() == (3500, "invalid token")


async def test_others_see_what_the_newest_tokens_say(nats_url: str) -> None:
    channel = f"chat:{a_room()}"
    async with (
        a_gateway(nats_url, issuers=[an_issuer(hmac_secret=SECRET)]) as gateway,
        talking(gateway, a_token(info={"v": 1})) as client,
    ):

        async def seen(**infos: Any) -> None:
            """Ask until that is what others see."""
            async with asyncio.timeout(DEADLINE_SECONDS):
                found: Message = {}
                while found != infos:
                    await asyncio.sleep(0.05)
                    present = (await client.ask("presence", channel=channel))["presence"]
                    found = {
                        name: info
                        for each in present.values()
                        for name, info in each.items()
                        if name.endswith("_info")
                    }

        first = a_token(channel=channel, info={"role": 1})
        await client.ask("subscribe", channel=channel, token=first)
        await seen(conn_info={"v": 1}, chan_info={"role": 1})
        await client.ask("refresh", token=a_token(info={"v": 2}))
        await seen(conn_info={"v": 2}, chan_info={"role": 1})
        second = a_token(channel=channel, info={"role": 2})
        await client.ask("sub_refresh", channel=channel, token=second)
        await seen(conn_info={"v": 2}, chan_info={"role": 2})


async def test_a_token_that_grants_nothing_takes_back_what_the_one_before_it_granted(
    nats_url: str,
) -> None:
    channel = f"chat:{a_room()}"
    async with (
        a_gateway(nats_url, issuers=[an_issuer(hmac_secret=SECRET)]) as gateway,
        talking(gateway, a_token()) as client,
    ):
        first = a_token(channel=channel, info={"role": "admin"})
        await client.ask("subscribe", channel=channel, token=first)
        plain = a_token(channel=channel, expire_at=0)
        assert await client.ask("sub_refresh", channel=channel, token=plain) == {}
        await client.ask("publish", channel=channel, data=1)

        assert "chan_info" not in (await client.publication(channel))["info"]


async def test_who_is_not_to_be_seen_does_not_wait_for_being_seen(nats_url: str) -> None:
    channel = f"chat:{a_room()}"
    hidden = a_token(channel=channel, override={"presence": {"value": False}})
    async with (
        a_gateway(nats_url, issuers=[an_issuer(hmac_secret=SECRET)]) as gateway,
        talking(gateway, a_token()) as client,
    ):
        await client.ask("subscribe", channel=channel, token=hidden)
        async with asyncio.timeout(DEADLINE_SECONDS):
            for _ in range(20):  # each would wait for a second
                assert await client.ask("presence", channel=channel) == {"presence": {}}


async def test_who_is_subscribed_by_a_service_while_its_token_is_judged_stays_subscribed(
    nats_url: str,
) -> None:
    keys, channel = KeysThatComeLate(), f"chat:{a_room()}"
    async with (
        a_gateway(
            nats_url,
            keys=keys,
            issuers=[an_issuer(hmac_secret=SECRET)],
            settings={"api_key": SecretStr("k" * 20)},
        ) as gateway,
        talking(gateway, a_token()) as client,
        a_client_of(gateway) as service,
    ):
        token = token_of(1, "Ann", sub="ann", channel=channel)
        subscribe = {"channel": channel, "token": token, "recoverable": True, "recover": True}
        await client.say({"id": 7, "subscribe": subscribe | {"epoch": "_", "flag": 2}})
        await keys.asked.wait()
        order = {"user": "ann", "channel": channel}
        await service.post("/api/subscribe", json=order, headers={"X-API-Key": "k" * 20})
        assert (await client.push())["channel"] == channel
        keys.come.set()

        assert await client.reply(7) == {
            "id": 7,
            "error": {"code": 105, "message": "already subscribed"},
        }
        assert await client.ask("publish", channel=channel, data=1) == {}
        assert (await client.publication(channel))["data"] == 1
