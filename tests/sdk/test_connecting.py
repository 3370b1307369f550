"""Connecting by the real SDKs: tokens, and how a connection ends."""

import pytest
from cent import AsyncClient, Disconnect, DisconnectRequest

from tests.sdk.clients import SdkError
from tests.sdk.site import SHORT_SECONDS, Sdk, Site, a_channel, a_user, connection_token


async def test_a_client_connects_leaves_and_comes_back(site: Site, sdk: Sdk) -> None:
    ann = await sdk.client(site)

    first = await ann.connect()
    left = await ann.disconnect()
    second = await ann.connect()

    assert (left["code"], left["reason"]) == (0, "disconnect called")
    assert first["client"] != second["client"]


async def test_a_client_connects_and_leaves_many_times(site: Site, sdk: Sdk) -> None:
    ann = await sdk.client(site)

    for _ in range(10):
        await ann.call("connect")
        await ann.call("disconnect")
    await ann.connect()


@pytest.mark.parametrize(
    ("token", "ended"),
    [
        ("no token at all", (3500, "invalid token")),
        ("", (3501, "bad request")),
        (connection_token("ann", seconds=-1), (1, "unauthorized")),
        (connection_token("ann", channel="talk:a"), (3500, "invalid token")),
    ],
    ids=["garbage", "none", "expired", "of a subscription"],
)
async def test_a_token_that_is_not_good_ends_the_client(
    site: Site, sdk: Sdk, token: str, ended: tuple[int, str]
) -> None:
    ann = await sdk.client(site, token=token)

    await ann.call("connect")

    disconnected = await ann.until("disconnected")
    assert (disconnected["code"], disconnected["reason"]) == ended


async def test_a_client_asks_for_another_token_than_an_expired_one(site: Site, sdk: Sdk) -> None:
    user = a_user()
    ann = await sdk.client(
        site, tokens=[connection_token(user, seconds=-1), connection_token(user)]
    )

    await ann.connect()

    assert [each["event"] for each in ann.events].count("token") == 2


async def test_a_connection_outlives_its_token_by_the_next(site: Site, sdk: Sdk) -> None:
    user, channel = a_user(), a_channel("talk")
    short = connection_token(user, seconds=SHORT_SECONDS)
    ann = await sdk.client(site, tokens=[short, connection_token(user)])
    await ann.connect()
    await ann.subscribe(channel)

    await ann.until("token")
    await ann.call("publish", channel, "still here")

    assert await ann.data(1) == ["still here"]
    assert [each["event"] for each in ann.events].count("connected") == 1


async def test_a_user_who_may_no_longer_stay_leaves_when_the_token_ends(
    site: Site, sdk: Sdk
) -> None:
    short = connection_token(a_user(), seconds=SHORT_SECONDS)
    ann = await sdk.client(site, tokens=[short, None])
    await ann.connect()

    disconnected = await ann.until("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (1, "unauthorized")


async def test_an_operator_ends_the_connections_of_a_user(
    site: Site, sdk: Sdk, api: AsyncClient
) -> None:
    user = a_user()
    ann, other = await sdk.client(site, user), await sdk.client(site)
    await ann.connect()
    await other.connect()

    await api.disconnect(DisconnectRequest(user=user))

    disconnected = await ann.until("disconnected")
    assert (disconnected["code"], disconnected["reason"]) == (3503, "force disconnect")
    assert "disconnected" not in {each["event"] for each in other.events}


@pytest.mark.parametrize(("code", "comes_back"), [(4000, True), (4500, False)])
async def test_the_code_of_a_disconnect_says_whether_to_come_back(
    site: Site, sdk: Sdk, api: AsyncClient, code: int, comes_back: bool
) -> None:
    user = a_user()
    ann = await sdk.client(site, user)
    await ann.connect()

    await api.disconnect(
        DisconnectRequest(user=user, disconnect=Disconnect(code=code, reason="so be it"))
    )

    end = await ann.until("connecting" if comes_back else "disconnected")
    assert (end["code"], end["reason"]) == (code, "so be it")
    if comes_back:
        await ann.until("connected")


async def test_a_method_that_there_is_not_is_not_available(site: Site, sdk: Sdk) -> None:
    ann = await sdk.client(site)
    await ann.connect()

    with pytest.raises(SdkError) as refused:
        await ann.call("rpc", "any", {})

    assert refused.value.code == 108
