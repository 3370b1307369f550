"""Who comes without a token, and the application is asked who it is."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.responses import JSONResponse, RedirectResponse, Response
from structlog.testing import capture_logs

from gateway.channels.options import Namespace
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.nats.client import Bus
from shared.tokens.revocations import UserRevoked
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, now, token_of
from tests.gateway.protocols.centrifuge.talking import talk, talking
from tests.gateway.proxies.application import AnApplication, Asked, an_application
from tests.gateway.serving import until

COOKIE = {"Cookie": "session=ann"}
TEMPORARY = {"error": {"code": 100, "message": "internal server error", "temporary": True}}
TOO_MANY = {"error": {"code": 111, "message": "too many requests", "temporary": True}}


def who_it_is(asked: Asked) -> dict[str, Any]:
    """By the cookie, as an application with sessions does."""
    _, _, name = asked.headers.get("cookie", "").partition("session=")
    return {"result": {"user": name}} if name else {"error": {"code": 401, "message": "sign in"}}


@asynccontextmanager
async def asking(
    nats_url: str, application: AnApplication, **settings: Any
) -> AsyncGenerator[RunningGateway]:
    url = {"proxy_connect_url": application.url("/connect")}
    async with a_gateway(nats_url, settings=url | settings) as gateway:
        yield gateway


@pytest.fixture
async def application() -> AsyncGenerator[AnApplication]:
    async with an_application(connect=who_it_is) as running:
        yield running


@pytest.fixture
async def gateway(
    nats_url: str, bus: Bus, application: AnApplication
) -> AsyncGenerator[RunningGateway]:
    async with asking(nats_url, application) as running:
        yield running


async def test_a_client_is_whom_the_application_knows_by_its_cookie(
    gateway: RunningGateway, application: AnApplication
) -> None:
    async with talk(gateway, headers=COOKIE) as client:
        connected = await client.ask("connect", name="js", version="1", data={"page": 7})

    assert connected["subs"].keys() == {"#ann"}
    assert "ttl" not in connected
    [asked] = application.asked
    assert asked.headers["cookie"] == COOKIE["Cookie"]
    assert asked.headers["content-type"] == "application/json"
    assert asked.body == {
        "client": connected["client"],
        "transport": "websocket",
        "protocol": "json",
        "encoding": "json",
        "name": "js",
        "version": "1",
        "data": {"page": 7},
    }


async def test_the_application_says_what_the_client_is_given(
    nats_url: str, bus: Bus, application: AnApplication, publisher: Publisher
) -> None:
    application.answers["/connect"] = {
        "result": {
            "user": "ann",
            "info": {"name": "Ann"},
            "data": {"theme": "dark"},
            "subs": {"news:ann": {"data": {"unread": 3}}},
        }
    }
    namespaces = {"news": Namespace(presence=True)}
    async with (
        asking(nats_url, application, namespaces=namespaces) as gateway,
        talk(gateway) as client,
    ):
        connected = await client.ask("connect", subs={"news:other": {}})
        present = await client.ask("presence", channel="news:ann")
        await publish(publisher, "news:ann", "for ann")  # type: ignore[arg-type]
        assert (await client.publication("news:ann"))["data"] == "for ann"

    assert application.asked[0].body["channels"] == ["news:other"]
    assert connected["data"] == {"theme": "dark"}
    assert connected["subs"]["news:ann"]["data"] == {"unread": 3}
    [info] = present["presence"].values()
    assert info["conn_info"] == {"name": "Ann"}


async def test_who_brings_a_token_is_not_asked_about(
    gateway: RunningGateway, application: AnApplication
) -> None:
    async with talking(gateway, token_of(7, "Ann")):
        assert application.asked == []


def refusal(code: int, message: str, **others: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message} | others}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(401, "no"), refusal(401, "no")),
        (refusal(1000, "later", temporary=True), refusal(1000, "later", temporary=True)),
        ({"result": {"user": "ann", "expire_at": 1}}, refusal(110, "expired")),
        ({"result": {"user": "ann", "channels": ["nowhere:x"]}}, refusal(102, "unknown channel")),
    ],
    ids=["refused", "refused for now", "over", "to a channel that there is not"],
)
async def test_what_the_application_refuses_is_what_the_client_is_told(
    gateway: RunningGateway, application: AnApplication, answer: Any, expected: Any
) -> None:
    application.answers["/connect"] = answer
    async with talk(gateway) as client:
        assert await client.ask("connect") == expected


UNREADABLE: dict[str, Any] = {
    "no user id": {"result": {"user": "a user"}},
    "no user": {"result": {"name": "ann"}},
    "a list of channels as subs": {"result": {"user": "ann", "subs": [1]}},
    "no time": {"result": {"user": "ann", "expire_at": "tomorrow"}},
    "no object as the result": {"result": "ann"},
    "a code of the SDKs": refusal(7, "of the SDKs"),
    "a code of WebSockets": {"disconnect": {"code": 1000, "reason": "x"}},
    "JSON as a reason": {"disconnect": {"code": 4500, "reason": "{}"}},
    "no object": [],
    "no JSON": Response("not JSON"),
    "no UTF-8": Response(b"\xff"),
    "another status": JSONResponse({"result": {"user": "ann"}}, status_code=403),
    "a redirect": RedirectResponse("/login"),
    "too long": JSONResponse({"result": {"user": "ann", "data": "x" * 300_000}}),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_is_no_answer_lets_nobody_in_and_the_client_is_told_to_come_again(
    gateway: RunningGateway, application: AnApplication, what: str
) -> None:
    application.answers["/connect"] = UNREADABLE[what]
    async with talk(gateway) as client:
        assert await client.ask("connect") == TEMPORARY
    assert len(application.asked) == 1


async def test_the_application_ends_a_connection_with_its_own_code(
    gateway: RunningGateway, application: AnApplication
) -> None:
    application.answers["/connect"] = {"disconnect": {"code": 4501, "reason": "banned"}}
    async with talk(gateway) as client:
        await client.say({"id": 1, "connect": {}})
        assert await client.closed() == (4501, "banned")


@pytest.mark.parametrize("answer", [{}, {"result": None}], ids=["nothing", "null"])
async def test_whom_the_application_does_not_know_is_nobody_where_nobody_may_come(
    nats_url: str, bus: Bus, application: AnApplication, answer: Any
) -> None:
    application.answers["/connect"] = answer
    anonymous = {"allow_anonymous_connect_without_token": True}
    async with asking(nats_url, application) as gateway, talk(gateway) as client:
        await client.say({"id": 1, "connect": {}})
        assert await client.closed() == (3501, "bad request")
    async with asking(nats_url, application, **anonymous) as gateway, talk(gateway) as client:
        assert "client" in await client.ask("connect")


async def test_while_the_application_is_away_a_client_is_told_to_come_again(
    nats_url: str, bus: Bus
) -> None:
    url = f"http://127.0.0.1:{free_ports()}/connect"
    async with a_gateway(nats_url, settings={"proxy_connect_url": url}) as gateway:
        with capture_logs() as logs:
            async with talk(gateway) as client:
                assert await client.ask("connect") == TEMPORARY

    [line] = [each for each in logs if each["event"] == "application_not_asked"]
    assert line["question"] == "connect"
    assert "ConnectError" in line["reason"]
    assert gateway.metric("hubbub_proxy_requests_total", question="connect", outcome="failed") == 1


async def test_an_application_that_hangs_is_given_up_in_time_and_holds_up_nobody_else(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    application.goes_on.clear()
    async with (
        asking(nats_url, application, proxy_timeout_seconds=0.3) as gateway,
        talk(gateway) as waiting,
    ):
        await waiting.say({"id": 1, "connect": {}})
        await application.until_asked(1)

        async with talking(gateway, token_of(7, "Ann")) as ann:
            assert "publications" not in await ann.ask("unsubscribe", channel="chat:x")

        assert json.loads(await waiting.socket.recv())["error"]["code"] == 100


async def test_of_strangers_only_so_many_are_asked_about_at_a_time(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    application.goes_on.clear()
    limits = {"proxy_max_connects": 3, "proxy_max_connects_per_address": 2}
    async with (
        asking(nats_url, application, **limits) as gateway,
        AsyncExitStack() as stack,
    ):

        async def come(address: str) -> Any:
            headers = {"X-Forwarded-For": address} | COOKIE
            client = await stack.enter_async_context(talk(gateway, headers=headers))
            await client.say({"id": 1, "connect": {}})
            return client

        waiting = [await come("10.0.0.1"), await come("10.0.0.1")]
        await application.until_asked(2)
        refused = await come("10.0.0.1")
        assert json.loads(await refused.socket.recv()) == {"id": 1} | TOO_MANY
        waiting.append(await come("10.0.0.2"))
        await application.until_asked(3)
        refused = await come("10.0.0.3")
        assert json.loads(await refused.socket.recv()) == {"id": 1} | TOO_MANY

        application.goes_on.set()
        for client in waiting:
            assert "connect" in json.loads(await client.socket.recv())
        again = await come("10.0.0.1")
        assert "connect" in json.loads(await again.socket.recv())
    assert application.most_under_way == 3


async def test_a_connection_lasts_until_the_application_said_and_the_client_comes_again(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    application.answers["/connect"] = lambda _: {"result": {"user": "ann", "expire_at": now() + 1}}
    async with asking(nats_url, application) as gateway, talk(gateway) as client:
        connected = await client.ask("connect")
        assert connected.keys().isdisjoint({"expires", "ttl"})
        assert await client.closed() == (3005, "connection expired")


async def test_who_came_by_a_cookie_publishes_and_leaves_when_the_user_is_revoked(
    gateway: RunningGateway, bus: Bus, publisher: Publisher
) -> None:
    async with talk(gateway, headers={"Cookie": "session=9"}) as client:
        await client.ask("connect")
        await client.ask("subscribe", channel="chat:by-cookie")
        assert await client.ask("publish", channel="chat:by-cookie", data={"n": 1}) == {}
        assert (await client.publication("chat:by-cookie"))["info"]["user"] == "9"

        revoked = UserRevoked(user_id="9").model_dump_json().encode()
        await publisher.publish(
            "ctl.pub.auth.user_revoked", revoked, message_id="r", deadline_seconds=20
        )
        assert await client.closed() == (3500, "invalid token")


async def test_who_is_revoked_while_the_application_is_asked_is_not_let_in(
    gateway: RunningGateway, application: AnApplication, publisher: Publisher
) -> None:
    application.goes_on.clear()
    async with (
        talking(gateway, token_of(991, "Ann")) as witness,
        talk(gateway, headers={"Cookie": "session=991"}) as client,
    ):
        await client.say({"id": 1, "connect": {}})
        await application.until_asked(1)
        revoked = UserRevoked(user_id=UserId("991")).model_dump_json().encode()
        await publisher.publish(
            "ctl.pub.auth.user_revoked", revoked, message_id=a_room(), deadline_seconds=20
        )
        assert await witness.closed() == (3500, "invalid token")

        application.goes_on.set()
        assert await client.closed() == (3500, "invalid token")


async def test_what_one_users_answer_sets_as_a_cookie_is_not_sent_with_the_next_question(
    gateway: RunningGateway, application: AnApplication
) -> None:
    answer = JSONResponse({"result": {"user": "ann"}}, headers={"Set-Cookie": "session=ann"})
    application.answers["/connect"] = answer
    for headers in (COOKIE, None):
        async with talk(gateway, headers=headers) as client:
            assert "client" in await client.ask("connect")

    assert [asked.headers.get("cookie") for asked in application.asked] == ["session=ann", None]


async def test_only_listed_headers_are_shown_and_what_a_page_makes_up_stays_apart(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    settings = {
        "proxy_headers": ("Cookie", "X-Request-Id"),
        "proxy_emulated_headers": ("Authorization", "Cookie"),
        "proxy_static_headers": {"X-Secret": "between us"},
    }
    headers = COOKIE | {"Authorization": "Bearer browser", "X-Request-Id": "r1", "X-Other": "o"}
    forged = {
        "Cookie": "session=root", "authorization": "Bearer page", "X-Request-Id": "forged",
        "X-Secret": "forged", "X-Emulated-Authorization": "forged", "Host": "elsewhere",
    }  # fmt: skip
    async with (
        asking(nats_url, application, **settings) as gateway,
        talk(gateway, headers=headers) as client,
    ):
        connected = await client.ask("connect", headers=forged)

    assert connected["subs"].keys() == {"#ann"}
    shown = application.asked[0].headers
    ours = {"host", "content-length", "content-type", "accept", "accept-encoding"}
    assert {name: value for name, value in shown.items() if name not in ours} == {
        "cookie": "session=ann",
        "x-request-id": "r1",
        "x-secret": "between us",
        "x-emulated-authorization": "Bearer page",
        "x-emulated-cookie": "session=root",
    }


@pytest.mark.parametrize(
    "value",
    ["a\r\nCookie: session=root", "a\x00b", "é", "x" * 5000],
    ids=["another header", "a zero", "no ASCII", "too long"],
)
async def test_a_made_up_header_that_is_none_is_left_out(
    nats_url: str, bus: Bus, application: AnApplication, value: str
) -> None:
    async with (
        asking(nats_url, application, proxy_emulated_headers=("X-Mine",)) as gateway,
        talk(gateway, headers=COOKIE) as client,
    ):
        assert "client" in await client.ask("connect", headers={"X-Mine": value})

    assert "x-emulated-x-mine" not in application.asked[0].headers


async def test_a_cookie_is_asked_about_over_streams_too(
    gateway: RunningGateway, application: AnApplication
) -> None:
    url = f"http://127.0.0.1:{gateway.port}/connection"
    command = {"id": 1, "connect": {}}
    async with plain_http.client(headers=COOKIE) as client:
        async with client.stream("POST", f"{url}/http_stream", json=command) as stream:
            assert "connect" in json.loads(await anext(stream.aiter_lines()))
        query = {"cf_connect": json.dumps(command)}
        async with client.stream("GET", f"{url}/sse", params=query) as stream:
            lines = (line async for line in stream.aiter_lines() if line)
            assert "connect" in json.loads((await anext(lines)).removeprefix("data: "))
        async with client.stream("POST", f"{url}/uni_http_stream", json={}) as stream:
            assert "connect" in json.loads(await anext(stream.aiter_lines()))

    transports = [asked.body["transport"] for asked in application.asked]
    assert transports == ["http_stream", "sse", "uni_http_stream"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_elsewhere_can_have_nothing_asked_in_a_visitors_name(
    gateway: RunningGateway, application: AnApplication, site: str
) -> None:
    url = f"http://127.0.0.1:{gateway.port}/connection/sse"
    query = {"cf_connect": json.dumps({"id": 1, "connect": {}})}
    foreign = [{"Sec-Fetch-Site": site}, {"Origin": "https://evil.example"}]
    async with plain_http.client(headers=COOKIE) as client:
        for headers in foreign:
            answer = await client.get(url, params=query, headers=headers)
            assert answer.status_code == 403

    assert application.asked == []


async def test_who_leaves_while_it_is_asked_about_gives_the_place_back(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    application.goes_on.clear()
    async with asking(nats_url, application, proxy_max_connects=1) as gateway:
        async with talk(gateway, headers=COOKIE) as client:
            await client.say({"id": 1, "connect": {}})
            await application.until_asked(1)
        application.goes_on.set()
        asked = {"question": "connect", "outcome": "answered"}
        await until(lambda: gateway.metric("hubbub_proxy_requests_total", **asked) == 1)
        async with talk(gateway, headers=COOKIE) as client:
            assert "client" in await client.ask("connect")
