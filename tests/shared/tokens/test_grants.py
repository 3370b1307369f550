"""What tokens grant beside a user: channels, information, an end of their own, a subscription."""

import base64
import json
from typing import Any

import pytest

from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, ConnectionId, UserId
from shared.tokens.claims import (
    NEVER,
    NO_CHANNELS,
    ChannelOverride,
    Claims,
    Grant,
    Subscriber,
    SubscriptionClaims,
)
from shared.tokens.errors import GrantExpired, InvalidToken, TokenExpired, TokenMismatch
from tests.fixtures.tokens import NOW, Clock, a_foreign_token, a_verifier

NEWS = parse_channel("$news")
ANN = UserId("7")
HERE = ConnectionId("c-1")


def said(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


async def claims_of(**claims: Any) -> Claims:
    token = a_foreign_token({"sub": "7", "exp": NOW + 60} | claims)
    return await a_verifier().verify(token)


async def subscription_of(
    *, user_id: UserId = ANN, asked: ChannelName | None = NEWS, **claims: Any
) -> SubscriptionClaims:
    token = a_foreign_token({"sub": "7", "exp": NOW + 60, "channel": NEWS} | claims)
    return await a_verifier().verify_subscription(token, Subscriber(user_id, HERE, asked))


async def test_a_token_that_grants_nothing_more_shares_what_it_does_not_say() -> None:
    claims = await claims_of()

    assert claims.channels is NO_CHANNELS
    assert claims.info is None
    assert claims.expires_at == claims.token_expires_at == NOW + 60


@pytest.mark.parametrize("value", [{"a": [1, None]}, "text", 0, False, [], 1.5, "é"], ids=ascii)
async def test_info_is_any_json_as_it_is_or_in_base64(value: object) -> None:
    written = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    assert (await claims_of(info=value)).info == written
    assert (await claims_of(b64info=said(value), info="less")).info == written


async def test_a_token_subscribes_its_connection_to_channels() -> None:
    plain = await claims_of(channels=["chat:a", "chat:b"])
    told = await claims_of(
        channels=["chat:a"],
        subs={
            "chat:c": {
                "info": {"role": "dj"},
                "b64data": said(7),
                "override": {"presence": {"value": False}, "join_leave": {"value": True}},
            },
            "chat:d": {},
            "chat:e": None,
        },
    )

    assert plain.channels == {"chat:a": Grant(), "chat:b": Grant()}
    assert told.channels == {
        "chat:c": Grant(
            info=b'{"role":"dj"}',  # type: ignore[arg-type]
            data=b"7",  # type: ignore[arg-type]
            override=ChannelOverride(presence=False, join_leave=True),
        ),
        "chat:d": Grant(),
        "chat:e": Grant(),
    }


@pytest.mark.parametrize(
    "claims",
    [
        {"channels": "chat:a"}, {"channels": [7]}, {"channels": [""]}, {"channels": ["a b"]},
        {"subs": ["chat:a"]}, {"subs": {"": {}}}, {"subs": {"chat:a": 7}},
        {"subs": {"chat:a": {"override": 7}}}, {"subs": {"chat:a": {"override": {"presence": 1}}}},
        {"subs": {"chat:a": {"override": {"presence": {"value": "yes"}}}}},
        {"b64info": 7}, {"b64info": "no base64"}, {"b64info": base64.b64encode(b"{").decode()},
        {"b64info": base64.b64encode(b"1e400").decode()}, {"info": 10**400},
        {"info": "\ud800"}, {"subs": {"chat:a": {"data": ["\ud800"]}}},
        {"expire_at": "soon"}, {"expire_at": True}, {"channel": "chat:a"},
    ],
    ids=ascii,
)  # fmt: skip
async def test_what_a_token_grants_has_to_be_readable(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        await claims_of(**claims)


async def test_the_connection_may_outlive_its_token_or_end_before_it() -> None:
    for expire_at, end in ((NOW + 3600, NOW + 3600), (NOW + 5, NOW + 5), (0, NEVER), (-1, NEVER)):
        claims = await claims_of(expire_at=expire_at)
        assert (claims.expires_at, claims.token_expires_at) == (end, NOW + 60)


async def test_what_is_over_already_is_told_from_a_token_that_has_expired() -> None:
    with pytest.raises(GrantExpired):
        await claims_of(expire_at=NOW - 1)
    with pytest.raises(TokenExpired):
        await claims_of(exp=NOW - 1, expire_at=NOW + 60)


async def test_a_connection_that_outlives_its_token_is_confirmed_and_the_token_is_not() -> None:
    clock = Clock()
    verifier = a_verifier(now=clock)
    token = a_foreign_token({"sub": "7", "exp": NOW + 60, "expire_at": NOW + 90})
    claims = await verifier.verify(token)

    clock.now = NOW + 60
    verifier.confirm(claims)
    with pytest.raises(TokenExpired):
        await verifier.verify(token)

    clock.now = NOW + 90
    with pytest.raises(TokenExpired):
        verifier.confirm(claims)


@pytest.mark.parametrize("nobody", [{"sub": ""}, {"sub": None}], ids=str)
async def test_the_anonymous_user_comes_in_only_where_it_may(nobody: dict[str, Any]) -> None:
    verifier = a_verifier()
    token = a_foreign_token({"exp": NOW + 60} | nobody)

    for _ in range(2):
        with pytest.raises(InvalidToken, match="names no user"):
            await verifier.verify(token)
        assert (await verifier.verify(token, allow_anonymous=True)).user_id == ANONYMOUS


async def test_a_subscription_token_says_for_whom_what_and_until_when() -> None:
    claims = await subscription_of(
        info={"role": "dj"}, data=7, override={"force_recovery": {"value": True}}, expire_at=0
    )

    assert (claims.user_id, claims.channel, claims.client_id) == (ANN, NEWS, None)
    assert (claims.expires_at, claims.token_expires_at) == (NEVER, NOW + 60)
    assert (claims.grant.info, claims.grant.data) == (b'{"role":"dj"}', b"7")
    assert claims.grant.override == ChannelOverride(force_recovery=True)


async def test_a_subscription_token_is_for_whom_it_names() -> None:
    assert (await subscription_of(client=HERE)).client_id == HERE
    assert (await subscription_of(asked=None)).channel == NEWS
    assert (await subscription_of(user_id=ANONYMOUS, sub="")).user_id == ANONYMOUS

    with pytest.raises(TokenMismatch, match="user"):
        await subscription_of(sub="8")
    with pytest.raises(TokenMismatch, match="user"):
        await subscription_of(sub=None)
    with pytest.raises(TokenMismatch, match="connection"):
        await subscription_of(client="c-2")
    with pytest.raises(TokenMismatch, match="channel"):
        await subscription_of(asked=parse_channel("$other"))


async def test_a_subscription_token_that_has_expired_is_told_from_one_that_is_none() -> None:
    with pytest.raises(TokenExpired):
        await subscription_of(exp=NOW - 1)
    with pytest.raises(GrantExpired):
        await subscription_of(expire_at=NOW - 1)
    for claims in ({"channel": None}, {"channel": ""}, {"channel": 7}, {"client": 7}):
        with pytest.raises(InvalidToken) as refused:
            await subscription_of(**claims)
        assert type(refused.value) is InvalidToken


async def test_a_token_of_one_kind_does_not_pass_for_the_other_when_it_is_remembered() -> None:
    verifier = a_verifier()
    subscriber = Subscriber(ANN, HERE, NEWS)
    connection = a_foreign_token({"sub": "7", "exp": NOW + 60})
    subscription = a_foreign_token({"sub": "7", "exp": NOW + 60, "channel": NEWS})
    await verifier.verify(connection)
    remembered = await verifier.verify_subscription(subscription, subscriber)

    with pytest.raises(InvalidToken, match="subscription"):
        await verifier.verify(subscription)
    with pytest.raises(InvalidToken, match="subscription"):
        await verifier.verify_subscription(connection, subscriber)
    assert await verifier.verify_subscription(subscription, subscriber) is remembered
