"""How many connections are let in: of a user, from an address, by a process."""

import asyncio
import secrets
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.serving import DEADLINE_SECONDS, until

OF_USER = (1008, "Too many connections of this user")
FROM_ADDRESS = (1008, "Too many connections from this address")
FULL = (1013, "too many connections")

Answer = str | tuple[int, str]


async def knock(gateway: RunningGateway, user_id: int = 1, room: str | None = None) -> Answer:
    """Come and go: what the gateway says first, or how it closes."""
    token = token_of(user_id, "Ann")
    async with gateway.socket(token=token, room=room or a_room()) as tab:
        try:
            kind: str = (await tab.get())["type"]
        except ConnectionClosed:
            return await tab.closed()
        return kind


async def soon(gateway: RunningGateway, answer: Answer, user_id: int = 1) -> None:
    """Knock until that is the answer."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await knock(gateway, user_id) != answer:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def refusals(gateway: RunningGateway, reason: str, count: int) -> None:
    """So many are counted; a client may see its end before the gateway does."""
    name = "hubbub_connections_refused_total"
    await until(lambda: gateway.metric(name, reason=reason) >= count)
    assert gateway.metric(name, reason=reason) == count


async def test_a_user_may_have_so_many_connections_on_all_gateways_together(
    nats_url: str,
) -> None:
    limit = {"max_connections_per_user": 3}
    user = secrets.randbelow(10**9) + 1000  # of whom the other tests' gateways have told nothing
    async with (
        a_gateway(nats_url, settings=limit) as one,
        a_gateway(nats_url, settings=limit) as two,
        one.tab(user, "Ann", a_room()),
        two.tab(user, "Ann", a_room()),
        AsyncExitStack() as third,
    ):
        await third.enter_async_context(two.tab(user, "Ann", a_room()))
        await soon(one, OF_USER, user)
        await soon(two, OF_USER, user)
        assert await knock(one, user + 1) == "welcome"
        await refusals(one, "user_limit", 1)

        await third.aclose()

        await soon(one, "welcome", user)
        await soon(two, "welcome", user)


@pytest.mark.parametrize("admitted", [True, False])
async def test_an_address_may_have_so_many_connections_to_one_gateway(
    nats_url: str, admitted: bool
) -> None:
    async with (
        a_gateway(nats_url, settings={"max_connections_per_address": 2}) as gateway,
        gateway.tab(1, "Ann", a_room()),
        AsyncExitStack() as second,
    ):
        query: dict[str, Any] = {"token": token_of(2, "Ben")} if admitted else {}
        tab = await second.enter_async_context(gateway.socket(room=a_room(), **query))
        if admitted:
            await tab.until("welcome")

        for _ in range(3):  # who is turned away takes nobody's place, and frees none
            assert await knock(gateway) == FROM_ADDRESS
        await refusals(gateway, "address_limit", 3)
        await second.aclose()

        await soon(gateway, "welcome")


async def test_the_address_that_a_trusted_proxy_tells_is_the_one_that_counts(
    nats_url: str,
) -> None:
    async with (
        a_gateway(nats_url, settings={"max_connections_per_address": 1}) as gateway,
        gateway.socket(forwarded_for="192.0.2.1", token=token_of(1, "Ann")) as ann,
        gateway.socket(forwarded_for="192.0.2.2", token=token_of(2, "Ben")) as ben,
        gateway.socket(forwarded_for="192.0.2.1", token=token_of(1, "Ann")) as ann_again,
    ):
        await ann.until("welcome")
        await ben.until("welcome")
        assert await ann_again.closed() == FROM_ADDRESS


async def test_a_process_has_so_many_connections_whoever_has_not_signed_in_included(
    nats_url: str,
) -> None:
    async with (
        a_gateway(nats_url, settings={"max_connections": 2}) as gateway,
        gateway.tab(1, "Ann", a_room()) as ann,
        AsyncExitStack() as second,
    ):
        nameless = await second.enter_async_context(gateway.socket())
        assert await knock(gateway, user_id=3) == FULL
        await refusals(gateway, "process_limit", 1)
        assert await ann.pong() >= 0

        nameless.socket.transport.abort()

        await soon(gateway, "welcome", user_id=3)


async def test_whoever_is_refused_for_any_reason_gives_the_place_back(nats_url: str) -> None:
    settings = {"max_connections": 1, "auth_seconds": 0.2}
    async with a_gateway(nats_url, settings=settings) as gateway:
        refused: list[dict[str, Any]] = [
            {"token": "bad"},
            {"token": token_of(1, "Ann"), "room": "a b"},
            {"token": token_of(1, "Ann", seconds=-1)},
            {},
        ]
        for query in refused:
            async with gateway.socket(**query) as tab:
                assert (await tab.closed())[0] == 1008
            await soon(gateway, "welcome")
        await refusals(gateway, "invalid_token", 3)
        await refusals(gateway, "invalid_room", 1)
