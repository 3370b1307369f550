"""Over HTTP, over the bus and to the recorder: the same is published, and the same is refused."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import pytest
from pydantic import BaseModel

from clients.python.tests.bus.consuming import SECONDS, OrderPaid, a_name
from clients.python.tests.conftest import API_KEY
from hubbub_client import (
    BadRequest,
    Hubbub,
    IdempotencyKeyReused,
    Limits,
    PartlyPublished,
    Position,
    Publish,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from hubbub_client.bus import BusHubbub, connect
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.recorder import Recorder
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import StartServer
from tests.gateway.chatting import RunningGateway, token_of
from tests.gateway.protocols.centrifuge.talking import talking
from tests.system.nats_accounts import start_with_accounts, url_of

SOON = Limits(deadline_seconds=0.5)


class OrderPaidV2(BaseModel):
    order_id: int
    at: UUID


class Way:
    """A way to publish, and another to see what is published."""

    def __init__(self, hubbub: Hubbub | BusHubbub, reader: Hubbub) -> None:
        self.hubbub = hubbub
        self._reader = reader

    async def data(self, channel: str) -> list[Any]:
        # A gateway knows of what it stores itself at once, and so of all before it.
        await self._reader.publish("chat:mark", None)
        return [each.data for each in (await self._reader.history(channel, limit=-1)).publications]


@pytest.fixture(params=["HTTP", "bus", "recorder"])
async def way(request: pytest.FixtureRequest, url: str, nats_url: str) -> AsyncGenerator[Way]:
    if request.param == "recorder":
        hubbub = Recorder().hubbub
        yield Way(hubbub, hubbub)
        return
    async with Hubbub(url, API_KEY) as over_http, connect(nats_url) as over_bus:
        yield Way(over_http if request.param == "HTTP" else over_bus, over_http)


@pytest.fixture
def channel() -> str:
    return f"chat:{secrets.token_hex(6)}"


async def test_a_text_is_no_list_of_channels_or_users(way: Way) -> None:
    refused = pytest.raises(ValueError, match="a list is meant, not a text")
    with refused:
        await way.hubbub.broadcast("chat:lobby", 1)
    if isinstance(way.hubbub, BusHubbub):
        with refused:
            await way.hubbub.emit(OrderPaid(order_id=1), recipients="17")
        with refused:
            await way.hubbub.emit(OrderPaid(order_id=1), channels="chat:lobby")


async def test_data_and_events_are_stored_as_they_are_meant(way: Way, channel: str) -> None:
    at = UUID(int=7)
    first = await way.hubbub.publish(channel, {"text": "hi \U0001f600", "n": (1, 2.5, None)})
    second = await way.hubbub.publish(channel, OrderPaidV2(order_id=7, at=at), tags={"k": "v"})

    assert (second.offset > first.offset, second.epoch) == (True, first.epoch)
    assert await way.data(channel) == [
        {"text": "hi \U0001f600", "n": [1, 2.5, None]},
        {"order_id": 7, "at": str(at), "event": "order_paid", "version": 2, "id": ANY},
    ]


async def test_a_user_is_notified_on_the_personal_channel(way: Way) -> None:
    user = secrets.randbelow(2**50) + 1
    await way.hubbub.notify(user, OrderPaid(order_id=7), idempotency_key="k")
    await way.hubbub.notify(str(user), {"event": "greeted"})

    assert await way.data(f"#{user}") == [
        {"order_id": 7, "event": "order_paid", "id": "k"},
        {"event": "greeted", "id": ANY},
    ]
    for nothing in ({"sum": 5}, "order_paid"):
        with pytest.raises(ValueError, match="event"):
            await way.hubbub.notify(user, nothing)
    with pytest.raises(ValueError, match="user id"):
        await way.hubbub.notify("", {"event": "greeted"})


async def test_a_key_counts_once_in_each_channel(way: Way, channel: str) -> None:
    first = await way.hubbub.publish(channel, 1, idempotency_key="k")
    again = await way.hubbub.publish(channel, 1, idempotency_key="k")
    elsewhere = await way.hubbub.publish(f"{channel}-2", 2, idempotency_key="k")

    assert first == again != elsewhere
    for other in (2, True, "1"):
        with pytest.raises(IdempotencyKeyReused):
            await way.hubbub.publish(channel, other, idempotency_key="k")
    assert await way.data(channel) == [1]


async def test_what_can_never_be_stored_is_refused(way: Way, channel: str) -> None:
    with pytest.raises(BadRequest):
        await way.hubbub.publish("chat:a b", 1)
    with pytest.raises(TooLarge):
        await way.hubbub.publish(channel, "x" * 70_000)
    with pytest.raises(TypeError):
        await way.hubbub.publish(channel, object())
    with pytest.raises(ValueError, match="JSON"):
        await way.hubbub.publish(channel, float("nan"))

    assert await way.data(channel) == []


async def test_many_keep_their_order_and_each_has_an_outcome(way: Way, channel: str) -> None:
    positions = await way.hubbub.publish_many(Publish(channel, n) for n in range(120))
    with pytest.raises(PartlyPublished) as partly:
        await way.hubbub.publish_many(
            [
                Publish(channel, "a", idempotency_key="k"),
                Publish(channel, "b", idempotency_key="k"),
                Publish("chat:a b", "c"),
                Publish(channel, "d", tags={"k": "v"}, delta=True),
            ]
        )

    assert positions == sorted(set(positions))
    kinds = [type(outcome) for outcome in partly.value.outcomes]
    assert kinds == [Position, IdempotencyKeyReused, BadRequest, Position]
    assert "2 of 4" in str(partly.value)
    assert (await way.data(channel))[-3:] == [119, "a", "d"]
    assert await way.hubbub.publish_many([]) == []
    with pytest.raises(BadRequest):
        await way.hubbub.publish_many([Publish("chat:a b", 1)])


async def test_a_broadcast_reaches_every_channel_with_the_same_event(
    way: Way, channel: str
) -> None:
    channels = [f"{channel}-{n}" for n in range(3)]

    positions = await way.hubbub.broadcast(channels, OrderPaid(order_id=7))

    told = [await way.data(each) for each in channels]
    assert told[0] == told[1] == told[2] == [{"order_id": 7, "event": "order_paid", "id": ANY}]
    assert len(set(positions)) == 3


async def test_what_is_ephemeral_is_heard_from_the_bus_and_not_stored(
    gateway: RunningGateway, nats_url: str, url: str, channel: str
) -> None:
    async with (
        talking(gateway, token_of(7, "Ann")) as ann,
        connect(nats_url) as hubbub,
        Hubbub(url, API_KEY) as reader,
    ):
        await ann.ask("subscribe", channel=channel)
        await hubbub.publish_ephemeral(channel, "typing", tags={"k": "v"})
        heard = await ann.publication(channel)

        assert heard == {"data": "typing", "tags": {"k": "v"}}
        assert (await reader.history(channel)).publications == []


async def test_a_key_counts_over_the_bus_as_over_http(
    url: str, nats_url: str, channel: str
) -> None:
    async with Hubbub(url, API_KEY) as over_http, connect(nats_url) as over_bus:
        first = await over_http.publish(channel, [1], idempotency_key="k")

        assert await over_bus.publish(channel, [1], idempotency_key="k") == first
        with pytest.raises(IdempotencyKeyReused):
            await over_bus.publish(channel, [2], idempotency_key="k")


async def test_an_emitted_event_notifies_its_recipients_and_is_told_once(
    gateway: RunningGateway, bus: Bus, nats_url: str
) -> None:
    name, user = a_name(), secrets.randbelow(2**50) + 1
    async with (
        gateway.tab(user, "Ann", "lobby") as tab,
        connect(nats_url, service=name) as shop,
        connect(nats_url, service=f"{name}-2") as other,
    ):
        ids = [
            await each.emit(
                OrderPaidV2(order_id=7, at=UUID(int=7)), recipients=[user], idempotency_key="k"
            )
            for each in (shop, shop, other)
        ]
        first, second = [await tab.until("notification") for _ in range(2)]

    assert ids[0] == ids[1] != ids[2]
    assert (first["event"], first["version"], first["order_id"]) == ("order_paid", 2, 7)
    assert [first["id"], second["id"]] == [ids[0], ids[2]]
    assert (await StreamReader(bus, "EVENTS").state()).last > 0


async def test_what_is_no_event_is_not_emitted(nats_url: str) -> None:
    async with connect(nats_url) as shop:
        with pytest.raises(TooLarge):
            await shop.emit(Note(text="x" * 70_000))
        with pytest.raises(ValueError, match="user id"):
            await shop.emit(OrderPaid(order_id=1), recipients=[""])
        with pytest.raises(ValueError, match="ASCII"):
            await shop.emit(OrderPaid(order_id=1), channels=["a b"])
        not_a_model: Any = {"event": "order_paid"}
        with pytest.raises(ValueError, match="model"):
            await shop.emit(not_a_model)


class Note(BaseModel):
    text: str


async def test_a_bus_that_is_away_is_an_outage(nats_server: StartServer) -> None:
    server = nats_server()
    server.stop()
    async with connect(server.url, limits=SOON) as hubbub:
        commands: list[Callable[[], Any]] = [
            lambda: hubbub.publish("chat:a", 1),
            lambda: hubbub.publish_many([Publish("chat:a", n) for n in range(1200)]),
            lambda: hubbub.publish_ephemeral("chat:a", 1),
            lambda: hubbub.emit(OrderPaid(order_id=1)),
        ]
        for command in commands:
            with pytest.raises(Unavailable):
                await command()


async def test_a_stream_that_was_made_again_has_another_epoch(nats_server: StartServer) -> None:
    server = nats_server()
    async with (
        connect_bus(server.url, name="test") as bus,
        connect(server.url, limits=Limits(deadline_seconds=20)) as hubbub,
    ):
        await bootstrap(bus)
        before = await hubbub.publish("chat:a", 1)
        server.lose_store()
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(hubbub.publish("chat:a", 2))
            await bus.until_connected()
            await bootstrap(bus)
        after = publishing.result()

        state = await StreamReader(bus, "RT").state()

    assert before.epoch != after.epoch == state.epoch
    assert after.offset == 1


async def test_the_user_application_publishes_and_nobody_signs_in_by_a_wrong_password(
    nats_server: StartServer, tmp_path: Any
) -> None:
    server = start_with_accounts(nats_server, tmp_path)
    async with connect_bus(url_of(server, "root"), name="root") as root:
        await bootstrap(root)
    file = tmp_path / "application_url"
    file.write_text(f"{url_of(server, 'application')}\n")
    async with connect(file, service="shop") as hubbub:
        await hubbub.publish("chat:a", 1, idempotency_key="k")
        await hubbub.publish("chat:a", 1, idempotency_key="k")
        await hubbub.emit(OrderPaid(order_id=1))
    async with connect(file, limits=SOON) as hubbub:
        hubbub.service = "posts"  # which `connect` refuses
        refusal = await until_refused(lambda: hubbub.emit(OrderPaid(order_id=1)))
        assert "events.posts.order_paid" in refusal
    wrong = url_of(server, "application", "guessed")
    async with connect(wrong, limits=SOON) as hubbub:
        refusal = await until_refused(lambda: hubbub.publish("chat:a", 1))
        assert "Authorization Violation" in refusal


async def until_refused(ask: Callable[[], Awaitable[object]]) -> str:
    """Why. Who does not hear of a refusal within the deadline takes the bus to be away."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await ask()
            except Unavailable:
                continue
            except Unauthorized as refusal:
                return str(refusal)
            raise AssertionError("it was allowed")
