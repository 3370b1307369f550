"""What gateways ask each other."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.cluster import Cluster, ClusterLimits, NoSuchNode, Question
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.nats.client import Bus, connect_bus
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually


class Number(Question):
    number: int


class Gateways:
    """As many as a test wants, each with a lease that all know of."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack
        self.leases: list[str] = []

    async def start(
        self,
        handler: Callable[[Number], Any],
        *,
        limits: ClusterLimits | None = None,
        stack: AsyncExitStack | None = None,
    ) -> Cluster:
        """One that stays until the test is over, or the stack is closed."""
        stack = stack or self._stack
        bus = await stack.enter_async_context(connect_bus(self._url, name="gateway"))
        lease = f"lease-{len(self.leases)}"
        self.leases.append(lease)
        cluster = Cluster(
            bus,
            leases=lambda: frozenset(self.leases),
            own_lease=lambda: lease,
            limits=limits or ClusterLimits(survey_seconds=3),
        )
        cluster.handle("number", Number, handler)
        await stack.enter_async_context(cluster.listening())
        await bus.until_connected()
        # Answered only when the server has read the subscriptions that went before it.
        await bus.subscribe("_INBOX_gateway.flushed", lambda *_message: flushed.set())
        flushed = asyncio.Event()
        bus.send("_INBOX_gateway.flushed", b"")
        await flushed.wait()
        return cluster


@pytest.fixture
async def gateways(nats_server: Callable[[], NatsServer]) -> AsyncGenerator[Gateways]:
    async with AsyncExitStack() as stack:
        yield Gateways(nats_server().url, stack)


def _double(asked: Number) -> int:
    return 2 * asked.number


async def test_a_gateway_answers_another_and_itself(gateways: Gateways) -> None:
    one, two = [await gateways.start(_double) for _ in range(2)]

    assert await one.ask(two.node, "number", {"number": 4}) == 8
    assert await one.ask(one.node, "number", {"number": 5}) == 10


@pytest.mark.parametrize("node", ["0" * 16, "all", "*", "", "a.b", ">", "x y"])
async def test_nobody_is_asked_who_is_not_there(gateways: Gateways, node: str) -> None:
    one = await gateways.start(_double)

    with pytest.raises(NoSuchNode):
        await one.ask(node, "number", {"number": 4})


async def test_all_are_asked_and_nobody_is_waited_for_who_has_no_lease(gateways: Gateways) -> None:
    patient = ClusterLimits(survey_seconds=60)
    clusters = [await gateways.start(_double, limits=patient) for _ in range(3)]

    answers, is_complete = await clusters[0].survey("number", {"number": 1})

    assert answers == {each.node: 2 for each in clusters}
    assert is_complete


async def test_a_survey_ends_without_those_who_do_not_answer_and_says_so(
    gateways: Gateways,
) -> None:
    one, two = [await gateways.start(_double) for _ in range(2)]
    gateways.leases.append("of one who died")

    answers, is_complete = await one.survey("number", {"number": 1})

    assert answers == {one.node: 2, two.node: 2}
    assert not is_complete


async def test_a_gateway_that_leaves_answers_what_reached_it_and_is_gone_for_the_rest(
    gateways: Gateways,
) -> None:
    one = await gateways.start(_double)
    answered: list[int] = []

    async def ask_until_gone(node: str) -> None:
        with suppress(NoSuchNode):
            while True:
                answered.append(await one.ask(node, "number", {"number": 1}))

    async with AsyncExitStack() as stack:
        leaving = await gateways.start(_double, stack=stack)
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(ask_until_gone(leaving.node))
            await eventually(lambda: bool(answered))
            await stack.aclose()

    assert set(answered) == {2}


@asynccontextmanager
async def another_bus(url: str) -> AsyncGenerator[Bus]:
    async with connect_bus(url, name="gateway") as bus:
        await bus.until_connected()
        yield bus


async def test_whatever_comes_over_the_bus_a_gateway_goes_on(
    nats_server: Callable[[], NatsServer],
) -> None:
    url = nats_server().url
    async with AsyncExitStack() as stack:
        cluster = await Gateways(url, stack).start(_double)
        bus = await stack.enter_async_context(another_bus(url))
        subject = f"gw.{cluster.node}"
        bus.send(f"{subject}.number", b"\xff not JSON")
        bus.send(f"{subject}.number", b'{"sender":1}')
        asked = {"sender": "x", "body": {"number": "no number"}}
        refused = await bus.request(
            f"{subject}.number", json.dumps(asked).encode(), timeout_seconds=20
        )
        unknown = await bus.request(
            f"{subject}.nothing", json.dumps(asked).encode(), timeout_seconds=20
        )
        asked["body"] = {"number": 21}
        good = await bus.request(
            f"{subject}.number", json.dumps(asked).encode(), timeout_seconds=20
        )

    assert json.loads(refused)["error"] == json.loads(unknown)["error"] == "not answered"
    assert json.loads(good)["result"] == 42


async def test_who_is_asked_and_fails_tells_so(gateways: Gateways) -> None:
    def fail(_asked: Number) -> int:
        raise RuntimeError

    one, two = await gateways.start(_double), await gateways.start(fail)

    with pytest.raises(Unavailable):
        await one.ask(two.node, "number", {"number": 1})
    assert await one.survey("number", {"number": 1}) == ({one.node: 2}, False)


async def test_an_answer_has_a_bound(gateways: Gateways) -> None:
    short = ClusterLimits(max_answer_bytes=1000)
    one = await gateways.start(_double)
    two = await gateways.start(lambda asked: "x" * asked.number, limits=short)

    assert await one.ask(two.node, "number", {"number": 100}) == "x" * 100
    with pytest.raises(Unavailable):
        await one.ask(two.node, "number", {"number": 1000})


async def test_without_a_bus_nobody_is_asked_and_the_deadline_holds(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    async with AsyncExitStack() as stack:
        gateways = Gateways(server.url, stack)
        hasty = ClusterLimits(request_seconds=0.2, survey_seconds=0.2)
        one = await gateways.start(_double, limits=hasty)
        two = await gateways.start(_double)
        server.kill()
        with pytest.raises(Unavailable):
            await one.ask(two.node, "number", {"number": 1})
