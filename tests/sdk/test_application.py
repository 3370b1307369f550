"""The real SDKs at a gateway that asks the application."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.client import Bus
from tests.e2e.fault_proxy import FaultProxy, Faults, fault_proxy
from tests.fixtures.tokens import SECRET
from tests.gateway.chatting import a_gateway, now
from tests.gateway.proxies.application import AnApplication, Asked, an_application
from tests.sdk.clients import SdkError
from tests.sdk.site import NAMESPACES, SETTINGS, Sdk, Site, a_channel, a_site, a_user


def who_it_is(asked: Asked) -> dict[str, Any]:
    return {"result": {"user": asked.headers["cookie"].removeprefix("session=")}}


def at_first_for_a_second(result: dict[str, Any]) -> Callable[[Asked], dict[str, Any]]:
    """From when it is asked on; whoever comes again may stay."""
    lives = [1.0]

    def answer(_asked: Asked) -> dict[str, Any]:
        return {"result": result | {"expire_at": now() + lives.pop() if lives else 0}}

    return answer


@dataclass
class Asking:
    """A gateway, the application, and what is between them."""

    site: Site
    application: AnApplication
    between: FaultProxy


@pytest.fixture
def proxy_timeout_seconds() -> float:
    """Longer than an application that answers takes on any machine."""
    return 4.0


@pytest.fixture
async def asking(
    nats_url: str, bus: Bus, publisher: Publisher, proxy_timeout_seconds: float
) -> AsyncGenerator[Asking]:
    async with (
        an_application(connect=who_it_is) as application,
        fault_proxy("127.0.0.1", application.port) as (between, port),
        a_gateway(
            nats_url,
            settings=SETTINGS
            | {
                "proxy_connect_url": f"http://127.0.0.1:{port}/connect",
                "proxy_rpc_url": f"http://127.0.0.1:{port}/rpc",
                "proxy_subscribe_url": f"http://127.0.0.1:{port}/subscribe",
                "proxy_publish_url": f"http://127.0.0.1:{port}/publish",
                "namespaces": NAMESPACES
                | {"asked": {"subscribe_proxy_enabled": True, "publish_proxy_enabled": True}},
                "rpc_over_bus": True,
                "proxy_timeout_seconds": proxy_timeout_seconds,
            },
            hmac_secret=SECRET,
        ) as gateway,
        a_site(bus, publisher, gateway) as site,
    ):
        yield Asking(site, application, between)


@asynccontextmanager
async def a_service(bus: Bus, method: str, answer: dict[str, Any]) -> AsyncGenerator[None]:
    subscription = await bus.subscribe(
        f"rpc.{method}",
        lambda _subject, _payload, _headers, reply: bus.send(
            reply.decode(), json.dumps(answer).encode()
        ),
    )
    yield
    await subscription.drain(seconds=5)


async def test_a_client_is_known_by_its_cookie_and_talks_as_that_user(
    asking: Asking, sdk: Sdk
) -> None:
    user, channel = a_user(), a_channel("talk")
    ann = await sdk.client(asking.site, cookie=f"session={user}")
    await ann.connect()
    await ann.subscribe(channel)

    await ann.call("publish", channel, "hello")

    said = await ann.until("publication")
    assert (said["data"], said["info"]["user"]) == ("hello", user)


async def test_the_application_answers_a_call(asking: Asking, sdk: Sdk) -> None:
    asking.application.answers["/rpc"] = lambda asked: {"result": {"data": asked.body["data"]}}
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.connect()

    answer = await ann.call("rpc", "echo", {"n": 1})

    assert answer["data"] == {"n": 1}
    assert asking.application.bodies("/rpc")[0]["user"] == "ann"


async def test_a_service_on_the_bus_answers_a_call(asking: Asking, sdk: Sdk, bus: Bus) -> None:
    method = a_user("method")
    asking.application.answers["/rpc"] = {"error": {"code": 404, "message": "only on the bus"}}
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.connect()

    async with a_service(bus, method, {"result": {"data": {"stopped": True}}}):
        await bus.request(f"rpc.{method}", b"", timeout_seconds=20)  # so the server knows of it
        answer = await ann.call("rpc", method, {})

    assert answer["data"] == {"stopped": True}


async def test_the_application_lets_a_client_subscribe_and_changes_what_it_says(
    asking: Asking, sdk: Sdk
) -> None:
    channel = a_channel("asked")
    asking.application.answers |= {
        "/subscribe": {"result": {"data": {"topic": "x"}}},
        "/publish": lambda asked: {"result": {"data": asked.body["data"].upper()}},
    }
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.connect()

    subscribed = await ann.subscribe(channel)
    await ann.call("publish", channel, "hi")

    assert subscribed["data"] == {"topic": "x"}
    assert await ann.data(1) == ["HI"]


async def test_a_client_subscribes_again_while_the_application_is_away_and_when_its_time_is_over(
    asking: Asking, sdk: Sdk
) -> None:
    channel = a_channel("asked")
    asking.application.answers["/subscribe"] = at_first_for_a_second({})
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.connect()
    asking.between.faults = Faults(refusing=True)
    asking.between.reset_all()
    await ann.call("newSubscription", {}, channel=channel)
    await ann.call("subscribe", channel=channel)
    await ann.until("error", channel=channel)

    asking.between.faults = Faults()

    await ann.until("subscribed", channel=channel)
    await ann.until("subscribing", channel=channel, code=2501)
    await ann.until("subscribed", channel=channel)


async def test_whom_the_application_does_not_let_subscribe_is_told_so(
    asking: Asking, sdk: Sdk
) -> None:
    channel = a_channel("asked")
    asking.application.answers["/subscribe"] = {"error": {"code": 403, "message": "not you"}}
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.connect()
    await ann.call("newSubscription", {}, channel=channel)
    await ann.call("subscribe", channel=channel)

    unsubscribed = await ann.until("unsubscribed", channel=channel)

    assert (unsubscribed["code"], unsubscribed["reason"]) == (403, "not you")


async def test_a_call_is_refused_in_the_applications_words(asking: Asking, sdk: Sdk) -> None:
    asking.application.answers["/rpc"] = {"error": {"code": 409, "message": "not now"}}
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.connect()

    with pytest.raises(SdkError, match="not now") as refused:
        await ann.call("rpc", "m", {})

    assert refused.value.code == 409


@pytest.mark.parametrize("proxy_timeout_seconds", [1.0])
@pytest.mark.parametrize("fault", [Faults(refusing=True), Faults(stalled=True)], ids=str)
async def test_a_client_comes_back_as_soon_as_the_application_does(
    asking: Asking, sdk: Sdk, fault: Faults
) -> None:
    asking.between.faults = fault
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.call("connect")
    for _ in range(2):
        assert (await ann.until("error"))["event"] == "error"

    asking.between.faults = Faults()

    await ann.until("connected")
    assert not [each for each in ann.events if each["event"] == "disconnected"]


async def test_whom_the_application_refuses_is_told_so_and_stays_away(
    asking: Asking, sdk: Sdk
) -> None:
    asking.application.answers["/connect"] = {"error": {"code": 401, "message": "sign in"}}
    ann = await sdk.client(asking.site, cookie="")
    await ann.call("connect")

    disconnected = await ann.until("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (401, "sign in")
    assert len(asking.application.asked) == 1


async def test_whom_the_application_sends_away_for_good_does_not_come_back(
    asking: Asking, sdk: Sdk
) -> None:
    asking.application.answers["/connect"] = {"disconnect": {"code": 4500, "reason": "banned"}}
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.call("connect")

    disconnected = await ann.until("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (4500, "banned")


@pytest.mark.parametrize(("code", "comes_back"), [(4000, True), (4500, False)])
async def test_the_applications_code_says_whether_to_come_back(
    asking: Asking, sdk: Sdk, code: int, comes_back: bool
) -> None:
    asking.application.answers["/rpc"] = {"disconnect": {"code": code, "reason": "so be it"}}
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.connect()

    with pytest.raises(SdkError):
        await ann.call("rpc", "m", {})

    end = await ann.until("connecting" if comes_back else "disconnected", code=code)
    assert end["reason"] == "so be it"
    if comes_back:
        await ann.until("connected")


async def test_a_client_whose_time_is_over_comes_again_and_is_asked_about_anew(
    asking: Asking, sdk: Sdk
) -> None:
    asking.application.answers["/connect"] = at_first_for_a_second({"user": "ann"})
    ann = await sdk.client(asking.site, cookie="session=ann")
    await ann.connect()

    left = await ann.until("connecting", code=3005)
    await ann.until("connected")

    assert left["reason"] == "connection expired"
    assert len(asking.application.asked) == 2
