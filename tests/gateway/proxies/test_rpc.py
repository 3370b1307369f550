"""Calls of clients, answered by the application over HTTP, or by services on the bus."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.proxies.errors import CannotBeAsked
from gateway.proxies.proxies import Caller
from hubbub_client.contracts.ids import ConnectionId
from hubbub_client.nats.client import Bus
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.protocols.centrifuge.talking import talk, talking
from tests.gateway.proxies.application import AnApplication, Asked, an_application

TEMPORARY = {"error": {"code": 100, "message": "internal server error", "temporary": True}}
TOO_MANY = {"error": {"code": 111, "message": "too many requests", "temporary": True}}
BAD_REQUEST = {"error": {"code": 107, "message": "bad request"}}
NOT_AVAILABLE = {"error": {"code": 108, "message": "not available"}}
NOT_FOUND = {"error": {"code": 104, "message": "method not found"}}


def echoed(asked: Asked) -> dict[str, Any]:
    return {"result": {"data": {"you said": asked.body.get("data")}}}


@pytest.fixture
async def application() -> AsyncGenerator[AnApplication]:
    async with an_application(rpc=echoed) as running:
        yield running


@asynccontextmanager
async def answering(
    nats_url: str, application: AnApplication, **settings: Any
) -> AsyncGenerator[RunningGateway]:
    url = {"proxy_rpc_url": application.url("/rpc")}
    async with a_gateway(nats_url, settings=url | settings) as gateway:
        yield gateway


@pytest.fixture
async def gateway(
    nats_url: str, bus: Bus, application: AnApplication
) -> AsyncGenerator[RunningGateway]:
    async with answering(nats_url, application) as running:
        yield running


@pytest.fixture
async def on_bus(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(
        nats_url, settings={"rpc_over_bus": True, "proxy_timeout_seconds": 2}
    ) as running:
        yield running


@asynccontextmanager
async def a_service(
    bus: Bus, method: str, answer: Callable[[dict[str, Any]], bytes | None]
) -> AsyncGenerator[list[dict[str, Any]]]:
    """One on the bus; what it was asked."""
    asked: list[dict[str, Any]] = []

    def take(_subject: bytes, payload: bytes, _headers: bytes | None, reply: bytes) -> None:
        asked.append(json.loads(payload))
        answered = answer(asked[-1])
        if answered is not None:
            bus.send(reply.decode(), answered)

    subscription = await bus.subscribe(f"rpc.{method}", take)
    await has_heard(bus)
    yield asked
    await subscription.drain(seconds=5)


async def has_heard(bus: Bus) -> None:
    """Wait until the server knows what was subscribed to: it takes the lines in their order."""
    subject = bus.own_inbox()
    echo = await bus.subscribe(
        subject, lambda _subject, _payload, _headers, reply: bus.send(reply.decode(), b"")
    )
    await bus.request(subject, b"", timeout_seconds=20)
    echo.close()


def a_method() -> str:
    """A method that no other test serves."""
    return a_room()


async def test_the_application_answers_a_call_and_sees_who_calls(
    gateway: RunningGateway, application: AnApplication
) -> None:
    token = token_of(7, "Ann", meta={"tenant": 3})
    async with talk(gateway, headers={"Cookie": "session=ann"}) as client:
        connected = await client.ask("connect", token=token)
        answer = await client.ask("rpc", method="add", data=[1, 2])

    assert answer == {"data": {"you said": [1, 2]}}
    [asked] = application.asked
    assert asked.headers["cookie"] == "session=ann"
    assert asked.body == {
        "client": connected["client"],
        "transport": "websocket",
        "protocol": "json",
        "encoding": "json",
        "user": "7",
        "method": "add",
        "data": [1, 2],
        "meta": {"tenant": 3},
    }


async def test_falsy_data_is_data_and_half_a_surrogate_pair_passes(
    gateway: RunningGateway, application: AnApplication
) -> None:
    said: list[Any] = [0, False, {}, "\ud800"]
    async with talking(gateway, token_of(7, "Ann")) as client:
        for each in said:
            await client.ask("rpc", method="m", data=each)

    assert [asked.body["data"] for asked in application.asked] == said


async def test_a_number_that_no_double_holds_is_refused_and_not_passed_on(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    connect = {"proxy_connect_url": application.url("/connect")}
    async with answering(nats_url, application, **connect) as gateway:
        async with talk(gateway) as client:
            await client.socket.send('{"id":1,"connect":{"data":1e400}}')
            assert await client.reply(1) == {"id": 1} | BAD_REQUEST
        async with talking(gateway, token_of(7, "Ann")) as client:
            await client.socket.send('{"id":9,"rpc":{"method":"m","data":[-1e400]}}')
            assert await client.reply(9) == {"id": 9} | BAD_REQUEST
            assert "data" in await client.ask("rpc", method="m", data=1)

    assert len(application.asked) == 1


def test_what_is_nested_too_deep_is_not_passed_on() -> None:
    data: list[Any] = []
    for _ in range(sys.getrecursionlimit()):
        data = [data]
    with pytest.raises(CannotBeAsked):
        Caller(ConnectionId("c"), "websocket").body(data=data)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"result": {}}, {}),
        ({"result": {"data": None}}, {}),
        ({"result": {"data": 0}}, {"data": 0}),
        ({"result": {"b64data": "eyJuIjoxfQ=="}}, {"data": {"n": 1}}),
        ({"error": {"code": 404, "message": "none"}}, {"error": {"code": 404, "message": "none"}}),
        ({"error": {"code": 404}}, {"error": {"code": 404, "message": ""}}),
        ({}, TEMPORARY),
        ({"result": {"b64data": "?"}}, TEMPORARY),
    ],
    ids=str,
)
async def test_a_call_is_answered_with_what_the_application_says(
    gateway: RunningGateway, application: AnApplication, answer: Any, expected: Any
) -> None:
    application.answers["/rpc"] = answer
    async with talking(gateway, token_of(7, "Ann")) as client:
        assert await client.ask("rpc", method="m", data={}) == expected


async def test_the_application_may_end_the_connection_for_a_call(
    gateway: RunningGateway, application: AnApplication
) -> None:
    application.answers["/rpc"] = {"disconnect": {"code": 4000, "reason": "come again"}}
    async with talking(gateway, token_of(7, "Ann")) as client:
        await client.say({"id": 5, "rpc": {"method": "m"}})
        assert await client.closed() == (4000, "come again")


async def test_slow_calls_hold_up_no_other_command_and_a_few_are_under_way_at_a_time(
    gateway: RunningGateway, application: AnApplication
) -> None:
    application.goes_on.clear()
    channel = f"chat:{a_room()}"
    async with talking(gateway, token_of(7, "Ann")) as client:
        await client.say(*({"id": 100 + n, "rpc": {"method": "slow"}} for n in range(8)))
        await application.until_asked(8)
        await client.ask("subscribe", channel=channel)
        assert await client.ask("publish", channel=channel, data=1) == {}

        await client.say({"id": 108, "rpc": {"method": "slow"}})
        await application.until_asked(9)
        await client.say({"id": 109, "rpc": {"method": "slow"}})
        async with talking(gateway, token_of(8, "Bob")) as other:
            await other.say({"id": 1, "rpc": {"method": "slow"}})
            await application.until_asked(10)
        assert [asked.body["user"] for asked in application.asked[8:]] == ["7", "8"]

        application.goes_on.set()
        answered: set[int] = set()
        while len(answered) < 10:
            message = json.loads(await client.socket.recv())
            if "id" in message:
                answered.add(message["id"])
        assert answered == set(range(100, 110))


async def test_one_user_has_only_so_many_calls_under_way_and_all_together_too(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    application.goes_on.clear()
    limits = {"proxy_max_requests": 3, "proxy_max_requests_per_user": 2}
    async with (
        answering(nats_url, application, **limits) as gateway,
        talking(gateway, token_of(7, "Ann")) as ann,
        talking(gateway, token_of(8, "Bob")) as bob,
    ):
        await ann.say(*({"id": 100 + n, "rpc": {"method": "slow"}} for n in range(2)))
        await application.until_asked(2)
        assert await ann.ask("rpc", method="slow") == TOO_MANY
        await bob.say({"id": 100, "rpc": {"method": "slow"}})
        await application.until_asked(3)
        assert await bob.ask("rpc", method="slow") == TOO_MANY
        application.goes_on.set()


async def test_without_anybody_to_answer_calls_they_are_not_available(
    nats_url: str, bus: Bus
) -> None:
    async with a_gateway(nats_url) as gateway, talking(gateway, token_of(7, "Ann")) as client:
        async with a_service(bus, "m", lambda _: b'{"result":{}}') as asked:
            assert await client.ask("rpc", method="m", data={}) == NOT_AVAILABLE
        assert asked == []


async def test_a_service_on_the_bus_answers_a_call(on_bus: RunningGateway, bus: Bus) -> None:
    method = f"{a_method()}.stop"
    async with (
        a_service(bus, method, lambda _: b'{"result":{"data":{"stopped":true}}}') as asked,
        talk(on_bus) as client,
    ):
        connected = await client.ask("connect", token=token_of(7, "Ann", meta={"tenant": 3}))
        assert await client.ask("rpc", method=method, data={"id": 1}) == {"data": {"stopped": True}}

    assert asked == [
        {
            "client": connected["client"],
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "7",
            "method": method,
            "data": {"id": 1},
            "meta": {"tenant": 3},
        }
    ]


async def test_a_service_on_the_bus_refuses_a_call(on_bus: RunningGateway, bus: Bus) -> None:
    method = a_method()
    error = {"code": 409, "message": "not now"}
    async with (
        a_service(bus, method, lambda _: json.dumps({"error": error}).encode()),
        talking(on_bus, token_of(7, "Ann")) as client,
    ):
        assert await client.ask("rpc", method=method) == {"error": error}


async def test_a_call_that_nobody_on_the_bus_serves_is_not_available(
    on_bus: RunningGateway,
) -> None:
    async with talking(on_bus, token_of(7, "Ann")) as client:
        assert await client.ask("rpc", method=a_method(), data={}) == NOT_AVAILABLE


async def test_a_service_that_does_not_answer_is_given_up_in_time(
    on_bus: RunningGateway, bus: Bus
) -> None:
    method = a_method()
    async with (
        a_service(bus, method, lambda _: None),
        talking(on_bus, token_of(7, "Ann")) as client,
    ):
        assert await client.ask("rpc", method=method) == TEMPORARY


@pytest.mark.parametrize("answer", [b"", b"\xff", b"[]", b"{}", b'{"result":1}'], ids=repr)
async def test_what_a_service_answers_and_nobody_can_read_is_no_answer(
    on_bus: RunningGateway, bus: Bus, answer: bytes
) -> None:
    method = a_method()
    async with (
        a_service(bus, method, lambda _: answer),
        talking(on_bus, token_of(7, "Ann")) as client,
    ):
        assert await client.ask("rpc", method=method) == TEMPORARY


@pytest.mark.parametrize(
    "method",
    ["", "*", ">", "a.>", "a.*", ".a", "a.", "a..b", "a b", "a\r\nPUB x 0", "é", "a" * 129, "$JS"],
    ids=repr,
)
async def test_no_method_reaches_beyond_those_of_services(
    on_bus: RunningGateway, bus: Bus, method: str
) -> None:
    heard: list[bytes] = []
    listening = await bus.subscribe("rpc.>", lambda subject, *_: heard.append(subject))
    await has_heard(bus)
    async with talking(on_bus, token_of(7, "Ann")) as client:
        assert await client.ask("rpc", method=method, data={}) == NOT_FOUND
    await listening.drain(seconds=5)
    assert heard == []


async def test_what_nobody_on_the_bus_serves_is_asked_over_http(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    method = a_method()
    async with (
        answering(nats_url, application, rpc_over_bus=True) as gateway,
        a_service(bus, method, lambda _: b'{"result":{"data":"of the bus"}}'),
        talking(gateway, token_of(7, "Ann")) as client,
    ):
        assert await client.ask("rpc", method=method) == {"data": "of the bus"}
        assert await client.ask("rpc", method="other", data=1) == {"data": {"you said": 1}}
        assert await client.ask("rpc", method="not on *", data=2) == {"data": {"you said": 2}}

    assert [body["method"] for body in application.bodies("/rpc")] == ["other", "not on *"]


async def test_a_call_is_begun_behind_what_was_sent_before_it(
    gateway: RunningGateway, application: AnApplication
) -> None:
    channel = f"chat:{a_room()}"
    async with talk(gateway) as client:
        await client.say(
            {"id": 1, "connect": {"token": token_of(7, "Ann")}},
            {"id": 2, "subscribe": {"channel": channel}},
            {"id": 3, "publish": {"channel": channel, "data": 1}},
            {"id": 4, "rpc": {"method": "after"}},
        )
        async with asyncio.timeout(10):
            came = [json.loads(await client.socket.recv()) for _ in range(5)]
    assert [each["id"] for each in came if "id" in each] == [1, 2, 3, 4]
