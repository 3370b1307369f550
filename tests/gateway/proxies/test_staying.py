"""Asking the application whether a connection may stay, as the time ends that it gave it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.responses import Response

from gateway.channels.options import Namespace
from gateway.settings import GatewaySettings
from hubbub_client.contracts.ids import UserId
from hubbub_client.nats.client import Bus
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, now, token_of
from tests.gateway.protocols.centrifuge.talking import talk
from tests.gateway.proxies.application import AnApplication, Asked, an_application
from tests.gateway.serving import until

COOKIE = {"Cookie": "session=ann"}


@pytest.fixture
async def application() -> AsyncGenerator[AnApplication]:
    async with an_application() as running:
        yield running


@asynccontextmanager
async def asking_again(nats_url: str, application: AnApplication) -> AsyncGenerator[RunningGateway]:
    """One that lets somebody in for a second, and then asks whether to go on."""
    application.answers["/connect"] = lambda _: {"result": {"user": "7", "expire_at": now() + 1}}
    refresh = {
        "proxy_refresh_url": application.url("/refresh"),
        "proxy_refresh_retry_seconds": 0.05,
    }
    settings = refresh | {
        "proxy_connect_url": application.url("/connect"),
        "namespaces": {"chat": Namespace(presence=True)},
    }
    async with a_gateway(nats_url, settings=settings) as gateway:
        yield gateway


async def test_the_application_is_asked_whether_somebody_may_stay(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    channel, lives = f"chat:{a_room()}", [1, 0]

    def stays(_asked: Asked) -> dict[str, Any]:
        life, left = lives.pop(0), len(lives)
        ends = now() + life if life else 0
        return {"result": {"expire_at": ends, "info": {"left": left}, "meta": {"n": left}}}

    application.answers["/refresh"] = stays
    async with (
        asking_again(nats_url, application) as gateway,
        talk(gateway, headers=COOKIE) as client,
    ):
        connected = await client.ask("connect")
        await client.ask("subscribe", channel=channel)
        await until(lambda: not lives)
        here: Any = {}
        while here.get("conn_info") != {"left": 0}:
            present = await client.ask("presence", channel=channel)
            here = present["presence"][connected["client"]]

    first, second = [asked for asked in application.asked if asked.path == "/refresh"]
    assert first.headers["cookie"] == COOKIE["Cookie"]
    assert (first.body["client"], first.body["user"]) == (connected["client"], "7")
    assert second.body["meta"] == {"n": 1}


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ({"result": {"expired": True}}, (3005, "connection expired")),
        ({"result": {"expire_at": 1}}, (3005, "connection expired")),
        ({"error": {"code": 401, "message": "sign in"}}, (3005, "connection expired")),
        ({"disconnect": {"code": 4501, "reason": "banned"}}, (4501, "banned")),
    ],
    ids=str,
)
async def test_who_may_not_stay_is_sent_away(
    nats_url: str, bus: Bus, application: AnApplication, answer: Any, end: tuple[int, str]
) -> None:
    application.answers["/refresh"] = answer
    async with asking_again(nats_url, application) as gateway, talk(gateway) as client:
        await client.ask("connect")
        assert await client.closed() == end


async def test_while_nobody_says_whether_somebody_may_stay_the_application_is_asked_again(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    application.answers["/refresh"] = Response(status_code=503)
    async with asking_again(nats_url, application) as gateway, talk(gateway) as client:
        await client.ask("connect")
        await application.until_asked(4)
        assert "error" not in await client.ask("subscribe", channel=f"chat:{a_room()}")
        application.answers["/refresh"] = {"result": {"expired": True}}
        assert await client.closed() == (3005, "connection expired")


def let_time_pass(gateway: RunningGateway, user: str) -> None:
    """Until the connection of the user is over, as if the clock had gone on by as much."""
    [member] = gateway.parts.manager.connections_of(UserId(user))
    gateway.parts.manager.renew(member, replace(member.claims, expires_at=now()))
    member.end_with_token()


@pytest.fixture
async def expiring(
    nats_url: str, bus: Bus, application: AnApplication
) -> AsyncGenerator[RunningGateway]:
    """One that lets everybody in for long, and nobody stay."""
    async with asking_again(nats_url, application) as gateway:
        application.answers["/connect"] = lambda asked: {
            "result": {"user": asked.body["name"], "expire_at": now() + 1000}
        }
        application.answers["/refresh"] = {"result": {"expired": True}}
        yield gateway


async def test_when_the_clock_has_jumped_the_application_is_asked_at_the_end_by_the_new_time(
    expiring: RunningGateway, application: AnApplication
) -> None:
    async with talk(expiring) as client:
        await client.ask("connect", name="7")
        let_time_pass(expiring, "7")
        assert await client.closed() == (3005, "connection expired")

    assert application.bodies("/refresh")


async def test_about_who_has_shown_a_token_the_application_is_asked_no_more(
    expiring: RunningGateway, application: AnApplication
) -> None:
    async with talk(expiring) as ann, talk(expiring) as ben:
        await ann.ask("connect", name="7")
        await ben.ask("connect", name="8")
        assert (await ann.ask("refresh", token=token_of(7, "Ann")))["ttl"] > 1
        let_time_pass(expiring, "7")
        let_time_pass(expiring, "8")
        assert await ben.closed() == (3005, "connection expired")

        assert [asked["user"] for asked in application.bodies("/refresh")] == ["8"]
        assert "error" not in await ann.ask("subscribe", channel=f"chat:{a_room()}")


async def test_a_token_counts_that_is_shown_while_the_application_is_asked(
    expiring: RunningGateway, application: AnApplication
) -> None:
    async with talk(expiring) as client:
        await client.ask("connect", name="7")
        application.goes_on.clear()
        let_time_pass(expiring, "7")
        await application.until_asked(2)
        assert (await client.ask("refresh", token=token_of(7, "Ann")))["ttl"] > 1
        application.goes_on.set()
        asked = {"question": "refresh", "outcome": "answered"}
        await until(lambda: expiring.metric("hubbub_proxy_requests_total", **asked) == 1)
        assert "error" not in await client.ask("subscribe", channel=f"chat:{a_room()}")


def test_only_who_was_let_in_by_the_application_can_be_asked_about_again() -> None:
    with pytest.raises(ValidationError, match="those whom HUBBUB_GATEWAY_PROXY_CONNECT_URL let in"):
        GatewaySettings(proxy_refresh_url="http://app.example.com/refresh")
