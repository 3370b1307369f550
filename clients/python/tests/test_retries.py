"""When and how often a command is tried again, step by step; and once on a bus that goes away."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import httpx2
import pytest
from pydantic import SecretStr

from clients.python.tests.conftest import API_KEY
from hubbub_client import (
    Hubbub,
    Limits,
    PartlyPublished,
    Position,
    Publish,
    SyncHubbub,
    Unavailable,
    UnexpectedAnswer,
    UnknownChannel,
)
from hubbub_client.exchange import (
    NOT_IN_TIME,
    Attempts,
    NoResponse,
    Outcome,
    Pause,
    Request,
    Response,
    Steps,
    ask,
)
from hubbub_client.publishing import broadcast, publish_many
from tests.fixtures.nats import NatsServer
from tests.fixtures.tcp import a_tcp_server
from tests.gateway.chatting import a_gateway

T = TypeVar("T")

LIMITS = Limits(
    deadline_seconds=10, attempt_seconds=4, first_pause_seconds=1, longest_pause_seconds=3
)
REFUSED = NoResponse("ConnectError: refused")


@pytest.mark.parametrize(
    "limits",
    [
        {"deadline_seconds": 0},
        {"deadline_seconds": float("nan")},
        {"deadline_seconds": 300},
        {"first_pause_seconds": 0},
        {"max_batch": 0},
    ],
)
def test_limits_that_bound_nothing_are_refused(limits: dict[str, Any]) -> None:
    [name] = limits

    with pytest.raises(ValueError, match=f"{name} is not"):
        Limits(**limits)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def answered(body: object, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, json.dumps(body).encode())


STORED = answered({"result": {"offset": 7, "epoch": "e"}})
TEMPORARY = answered({"error": {"code": 100, "message": "internal server error"}})


def publish(clock: Clock) -> Steps[Position]:
    body = {"channel": "chat:a", "data": 1, "idempotency_key": "k"}
    return ask("publish", body, Position.read, Attempts(LIMITS, clock=clock))


def play(
    steps: Steps[T], outcomes: list[Outcome], clock: Clock, *, each_seconds: float = 0.0
) -> tuple[T, list[Request], list[float]]:
    """Let requests come out like this, one after another; the result, the requests, the pauses."""
    requests: list[Request] = []
    pauses: list[float] = []
    sent: Outcome = None
    try:
        while True:
            step = steps.send(sent)
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                clock.now += step.seconds
                sent = None
            else:
                requests.append(step)
                clock.now += each_seconds
                sent = outcomes.pop(0)
    except StopIteration as end:
        return end.value, requests, pauses


@pytest.mark.parametrize(
    "failure",
    [
        REFUSED,
        TEMPORARY,
        answered({}, 429),
        answered({}, 502),
        answered({}, 503),
        answered("", 500),
    ],
)
def test_what_may_pass_is_tried_again_as_it_was(failure: Outcome) -> None:
    position, requests, pauses = play(publish(clock := Clock()), [failure] * 3 + [STORED], clock)

    assert position == Position(7, "e")
    assert {(request.method, request.body) for request in requests} == {
        ("publish", b'{"channel":"chat:a","data":1,"idempotency_key":"k"}')
    }
    assert len(requests) == 4
    for pause, longest in zip(pauses, (1, 2, 3), strict=True):
        assert longest / 2 <= pause <= longest


def test_a_server_that_says_when_is_heeded_unless_that_is_past_the_deadline() -> None:
    later = answered({}, 503, **{"retry-after": "5"})
    _, _, pauses = play(publish(clock := Clock()), [later, STORED], clock)
    assert pauses == [5]

    with pytest.raises(Unavailable, match="503"):
        play(publish(clock := Clock()), [later, later], clock)
    assert clock.now == 1005


def test_the_deadline_bounds_all_tries_together_and_the_last_one_is_cut_short() -> None:
    clock, requests = Clock(), list[Request]()
    steps = _noting(publish(clock), requests)

    with pytest.raises(Unavailable, match="refused"):
        play(steps, [REFUSED] * 10, clock, each_seconds=3.5)

    assert clock.now <= 1000 + LIMITS.deadline_seconds + 3.5
    assert requests[0].timeout_seconds == LIMITS.attempt_seconds
    assert requests[-1].timeout_seconds < LIMITS.attempt_seconds


def test_an_attempt_without_an_answer_hides_no_reason_of_the_one_before_it() -> None:
    clock = Clock()

    with pytest.raises(Unavailable, match="refused"):
        play(publish(clock), [REFUSED, *[NOT_IN_TIME] * 9], clock, each_seconds=3.5)
    with pytest.raises(Unavailable, match="no answer in time"):
        play(publish(clock), [NOT_IN_TIME] * 10, clock, each_seconds=3.5)


@pytest.mark.parametrize(
    "nonsense",
    [
        answered([]),
        answered({}),
        answered({"result": {}}),
        answered({"result": None}),
        answered({"error": "text"}),
        answered({"error": {"code": 999, "message": "new"}}),
        answered({}, 302),
        Response(200, {}, b"<html>"),
    ],
)
def test_what_no_gateway_answers_is_not_tried_again(nonsense: Outcome) -> None:
    with pytest.raises(UnexpectedAnswer):
        play(publish(clock := Clock()), [nonsense], clock)


def test_of_many_only_those_are_tried_again_that_may_succeed() -> None:
    done = {"publish": {"offset": 1, "epoch": "e"}}
    unknown = {"error": {"code": 102, "message": "unknown channel"}}
    temporary = {"error": {"code": 100, "message": "internal server error"}}
    many = [Publish(f"chat:{name}", 1) for name in "abc"]
    outcomes: list[Outcome] = [
        REFUSED,
        answered({"replies": [done, temporary, unknown]}),
        answered({"replies": [done]}),
    ]
    sent: list[Request] = []

    with pytest.raises(PartlyPublished) as partly:
        play(_noting(publish_many(many, LIMITS), sent), outcomes, Clock())

    assert [type(each) for each in partly.value.outcomes] == [Position, Position, UnknownChannel]
    first, again, rest = (
        [each["publish"] for each in json.loads(r.body)["commands"]] for r in sent
    )
    assert first == again
    assert rest == [first[1]]


def test_of_a_broadcast_only_those_channels_are_tried_again() -> None:
    done = {"result": {"offset": 1, "epoch": "e"}}
    temporary = {"error": {"code": 100, "message": "internal server error"}}
    outcomes: list[Outcome] = [
        answered({"result": {"responses": [temporary, done]}}),
        answered({"result": {"responses": [done]}}),
    ]
    steps = broadcast(["chat:a", "chat:b"], Publish("", {"n": 1}), LIMITS)

    positions, requests, _ = play(steps, outcomes, Clock())

    bodies = [json.loads(request.body) for request in requests]
    assert positions == [Position(1, "e")] * 2
    assert [body.pop("channels") for body in bodies] == [["chat:a", "chat:b"], ["chat:a"]]
    assert bodies[0] == bodies[1]


def test_after_a_batch_that_nobody_answers_the_others_are_not_tried() -> None:
    limits = Limits(deadline_seconds=0.01, first_pause_seconds=1, max_batch=2)
    done = {"publish": {"offset": 1, "epoch": "e"}}
    many = [Publish("chat:a", number) for number in range(6)]
    outcomes: list[Outcome] = [answered({"replies": [done, done]}), REFUSED]

    with pytest.raises(PartlyPublished) as partly:
        play(publish_many(many, limits), outcomes, Clock())

    kinds = [type(each) for each in partly.value.outcomes]
    assert kinds == [Position, Position] + [Unavailable] * 4


def _noting(steps: Steps[T], sent: list[Request]) -> Steps[T]:
    """The same steps; what is sent is kept."""
    outcome: Outcome = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, Request):
            sent.append(step)
        outcome = yield step


async def test_both_clients_try_again_what_their_connections_fail_to_carry() -> None:
    bodies: list[bytes] = []

    def flaky(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        if len(bodies) % 2:
            raise httpx2.ConnectError("refused", request=request)
        return httpx2.Response(200, json={"result": {"offset": 1, "epoch": "e"}})

    limits = Limits(first_pause_seconds=0.001)
    transport = httpx2.MockTransport(flaky)
    async with Hubbub("http://hubbub", API_KEY, limits=limits, transport=transport) as hubbub:
        awaited = await hubbub.publish("chat:a", 1)
    with SyncHubbub("http://hubbub", API_KEY, limits=limits, transport=transport) as synchronous:
        plain = synchronous.publish("chat:a", 1)

    assert awaited == plain == Position(1, "e")
    assert bodies[0] == bodies[1] != bodies[2] == bodies[3]


async def test_who_takes_too_long_is_given_up() -> None:
    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    limits = Limits(deadline_seconds=0.1, attempt_seconds=0.05)
    async with a_tcp_server(never) as port:
        url = f"http://127.0.0.1:{port}"
        async with Hubbub(url, API_KEY, limits=limits) as hubbub:
            with pytest.raises(Unavailable, match=r"Timeout|in time"):
                await hubbub.publish("chat:a", 1)
        with SyncHubbub(url, API_KEY, limits=limits) as synchronous, pytest.raises(Unavailable):
            await asyncio.to_thread(synchronous.publish, "chat:a", 1)


async def test_an_answer_that_drips_is_given_up_too() -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0)

    limits = Limits(deadline_seconds=0.3, attempt_seconds=0.2)
    async with a_tcp_server(drip) as port, asyncio.timeout(10):
        url = f"http://127.0.0.1:{port}"
        async with Hubbub(url, API_KEY, limits=limits) as hubbub:
            with pytest.raises(Unavailable):
                await hubbub.publish("chat:a", 1)
        slowly = pytest.raises(Unavailable, match="slowly")
        with SyncHubbub(url, API_KEY, limits=limits) as synchronous, slowly:
            await asyncio.to_thread(synchronous.publish, "chat:a", 1)


async def test_what_is_published_while_the_bus_is_away_is_stored_once_when_it_is_back(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    settings = {"api_key": SecretStr(API_KEY), "publish_seconds": 0.3}
    limits = Limits(deadline_seconds=40, attempt_seconds=4)
    async with (
        a_gateway(server.url, settings=settings) as gateway,
        Hubbub(f"http://127.0.0.1:{gateway.port}", API_KEY, limits=limits) as hubbub,
    ):
        before = await hubbub.publish("chat:a", "before")
        server.kill()
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(hubbub.publish("chat:a", "meanwhile"))
            await asyncio.to_thread(server.start)
        after = await hubbub.publish("chat:a", "after")

    positions = [before, publishing.result(), after]
    assert [position.offset for position in positions] == [1, 2, 3]  # nobody else published
