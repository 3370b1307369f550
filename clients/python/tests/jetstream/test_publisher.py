"""Publishing on a real server: stored once, answered or refused, nothing left behind."""

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from hubbub_client.jetstream.publisher import (
    PubAck,
    PubAckResult,
    Publisher,
    rejection,
    start_publisher,
)
from hubbub_client.nats.client import Bus, BusUnavailable, MessageRejected, connect_bus
from tests.fixtures.nats import StartServer
from tests.fixtures.waiting import eventually
from tests.shared.jetstream.builders import a_stream, js_api, publish_numbers, read_all


async def test_what_is_published_is_stored_once_however_often_it_is_sent(bus: Bus) -> None:
    stream, message_id = await a_stream(bus), str(uuid4())

    async with start_publisher(bus) as publisher:
        first = await publisher.publish(f"{stream}.pub.a", b"1", message_id=message_id)
        second = await publisher.publish(f"{stream}.pub.b", b"2", message_id=message_id)

    assert first == PubAck(offset=1, duplicate=False)
    assert second == PubAck(offset=1, duplicate=True)
    assert [message.payload for message in await read_all(bus, stream)] == [b"1"]


async def test_headers_and_lifetime_reach_the_stream(bus: Bus) -> None:
    stream = await a_stream(bus, allow_msg_ttl=True)

    async with start_publisher(bus) as publisher:
        await publisher.publish(
            f"{stream}.pub.a", b"", message_id="m", ttl="1h", headers={"X-Trace": "é"}
        )

    [message] = await read_all(bus, stream)
    assert "\r\nX-Trace: é\r\n".encode() in message.headers
    assert b"\r\nNats-TTL: 3600\r\n" in message.headers or b"Nats-TTL: 1h" in message.headers
    assert b"\r\nNats-Msg-Id: m\r\n" in message.headers


async def test_publishes_of_one_caller_are_stored_in_their_order(bus: Bus) -> None:
    stream = await a_stream(bus)

    async with start_publisher(bus, window=50) as publisher, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                publisher.publish(f"{stream}.pub.a", str(n).encode(), message_id=str(n))
            )
            for n in range(500)
        ]

    assert [task.result().offset for task in tasks] == list(range(1, 501))
    assert [int(message.payload) for message in await read_all(bus, stream)] == list(range(500))


ONCE: dict[str, Any] = {"attempt_seconds": 60}
"""However long an answer takes, nothing is sent again."""


async def test_no_more_than_the_window_is_in_flight(bus: Bus) -> None:
    asked: list[str] = []
    await bus.subscribe("silent.window", lambda _s, _p, _h, reply: asked.append(reply.decode()))

    async with start_publisher(bus, window=3, **ONCE) as publisher, asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(publisher.publish("silent.window", b"", message_id=str(number)))
        await eventually(lambda: len(asked) == 3)
        await bus.request("$JS.API.INFO", b"", timeout_seconds=20)
        assert len(asked) == 3
        assert publisher.unanswered == 5

        bus.send(asked[0], b'{"stream":"X","seq":1}')
        await eventually(lambda: len(asked) == 4)
        for number in range(1, 5):
            await eventually(lambda n=number: len(asked) > n)  # type: ignore[misc]
            bus.send(asked[number], b'{"stream":"X","seq":2}')


async def test_what_would_wait_past_the_bound_is_refused_at_once_and_there_is_room_again_later(
    bus: Bus,
) -> None:
    outcomes: dict[str, PubAckResult] = {}
    asked: list[str] = []
    await bus.subscribe("silent.full", lambda _s, _p, _h, reply: asked.append(reply.decode()))
    a_place = 1024 + 10

    async with start_publisher(bus, window=1, max_waiting_bytes=2 * a_place, **ONCE) as publisher:

        def send(name: str) -> None:
            publisher.send(
                "silent.full",
                b"x" * 10,
                message_id=name,
                on_done=partial(outcomes.__setitem__, name),
                deadline_seconds=30,
            )

        for name in ("in flight", "waits", "waits too", "refused"):
            send(name)
        assert outcomes == {}, "nobody hears back within the call"
        await eventually(lambda: bool(outcomes))
        assert [(name, str(outcome)) for name, outcome in outcomes.items()] == [
            ("refused", "too much is waiting to be stored")
        ]

        await eventually(lambda: len(asked) == 1)
        bus.send(asked[0], b'{"stream":"X","seq":1}')
        await eventually(lambda: "in flight" in outcomes)
        send("waits after all")
        send("refused again")
        await eventually(lambda: "refused again" in outcomes)
        assert len(outcomes) == 3
        assert publisher.unanswered == 3


async def test_who_waits_for_the_answer_anyway_waits_for_a_place_too(bus: Bus) -> None:
    stream = await a_stream(bus)
    async with (
        start_publisher(bus, window=1, max_waiting_bytes=1) as publisher,
        asyncio.TaskGroup() as group,
    ):
        tasks = [
            group.create_task(publisher.publish(f"{stream}.pub.a", b"", message_id=str(number)))
            for number in range(20)
        ]

    assert [task.result().offset for task in tasks] == list(range(1, 21))


async def test_a_caller_that_is_cancelled_leaves_nothing_and_makes_room(bus: Bus) -> None:
    asked: list[str] = []
    await bus.subscribe("silent.cancel", lambda _s, _p, _h, reply: asked.append(reply.decode()))

    async with start_publisher(bus, window=1, **ONCE) as publisher, asyncio.TaskGroup() as group:

        def publish(message_id: str) -> asyncio.Task[PubAck]:
            return group.create_task(publisher.publish("silent.cancel", b"", message_id=message_id))

        in_flight, waiting, next_one = publish("a"), publish("b"), publish("c")
        await eventually(lambda: len(asked) == 1)
        waiting.cancel()
        in_flight.cancel()
        await eventually(lambda: len(asked) == 2)
        bus.send(asked[0], b'{"stream":"X","seq":1}')  # an answer that comes too late
        bus.send(asked[1], b'{"stream":"X","seq":7}')

        assert (await next_one).offset == 7
        assert publisher.unanswered == 0
        assert publisher._bus._inbox._handlers == {}


async def test_what_can_never_be_stored_is_rejected_at_once(bus: Bus) -> None:
    stream = await a_stream(bus)

    async with start_publisher(bus) as publisher:
        began_at = time.monotonic()
        with pytest.raises(MessageRejected) as rejected:
            await publisher.publish(
                f"{stream}.pub.a",
                b"",
                message_id="a",
                headers={"Nats-Expected-Last-Sequence": "7"},
            )
        assert rejected.value.err_code == 10071
        with pytest.raises(MessageRejected):
            await publisher.publish(f"{stream}.pub.a", bytes(bus.max_payload), message_id="b")
        with pytest.raises(MessageRejected):
            await publisher.publish(f"{stream}.pub.a", b"", message_id="line\r\nbreak")
        with pytest.raises(MessageRejected):
            await publisher.publish(f"{stream}.pub.*", b"", message_id="c")

        assert time.monotonic() - began_at < 5
        assert publisher.unanswered == 0


@pytest.mark.parametrize(
    ("code", "err_code", "final"),
    [
        (400, 10071, True),
        (404, 10059, True),
        (400, 10002, False),
        (400, 10120, False),
        (400, 10158, False),
        (408, 10008, False),
        (429, 10167, False),
        (503, 10008, False),
        (500, 10077, False),
    ],
)
def test_only_a_definite_no_is_final(code: int, err_code: int, final: bool) -> None:
    answer = b'{"error":{"code":%d,"err_code":%d,"description":"no"},"seq":0}' % (code, err_code)

    assert (rejection(answer) is not None) == final


SMALL_ACCOUNT = """
accounts: { A: { jetstream: { max_file: 1M }, users: [ { user: a, password: a } ] } }
no_auth_user: a
"""


async def test_a_message_for_which_the_account_has_no_room_is_stored_once_there_is(
    nats_server: StartServer,
) -> None:
    server = nats_server(SMALL_ACCOUNT)
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        stream = await a_stream(bus)

        async def fill(*, messages: int) -> None:
            for _ in range(messages):
                await publisher.publish(
                    f"{stream}.pub.a", bytes(100_000), message_id=uuid4().hex, deadline_seconds=1
                )

        with pytest.raises(BusUnavailable):
            await fill(messages=20)
        await js_api(bus, f"STREAM.PURGE.{stream}")
        await publisher.publish(
            f"{stream}.pub.a", bytes(100_000), message_id="last", deadline_seconds=20
        )


async def test_an_answer_that_says_not_now_is_followed_by_the_same_message_again(
    bus: Bus,
) -> None:
    seen: list[tuple[bytes, bytes | None]] = []
    answers = [
        b'{"error":{"code":400,"err_code":10158,"description":"in process"},"seq":0}',
        b'{"error":{"code":503,"err_code":10008,"description":"not now"},"seq":0}',
        b"{}",
        b'{"stream":"X","seq":5,"duplicate":true}',
    ]

    def answer(_subject: bytes, payload: bytes, headers: bytes | None, reply: bytes) -> None:
        seen.append((payload, headers))
        bus.send(reply.decode(), answers[len(seen) - 1])

    await bus.subscribe("moody.test", answer)
    async with start_publisher(bus) as publisher:
        stored = await publisher.publish("moody.test", b"1", message_id="a")

    assert stored == PubAck(offset=5, duplicate=True)
    assert len(seen) == 4
    assert len(set(seen)) == 1


async def test_a_lost_answer_is_asked_for_again(bus: Bus) -> None:
    seen: list[bytes] = []

    def answer(_subject: bytes, _payload: bytes, _headers: bytes | None, reply: bytes) -> None:
        seen.append(reply)
        if len(seen) > 1:
            bus.send(reply.decode(), b'{"stream":"X","seq":5}')

    await bus.subscribe("forgetful.test", answer)
    async with start_publisher(bus, attempt_seconds=0.1) as publisher:
        assert (await publisher.publish("forgetful.test", b"", message_id="a")).offset == 5


async def test_who_sees_the_message_in_its_stream_needs_no_answer(bus: Bus) -> None:
    stream, results = await a_stream(bus), list[PubAckResult]()
    replies: list[bytes] = []
    await bus.subscribe(f"{stream}.pub.a", lambda _s, _p, _h, reply: replies.append(reply))

    async with start_publisher(bus, **ONCE) as publisher:
        sending = publisher.send(
            f"{stream}.pub.a", b"1", message_id="m", on_done=results.append, asks=False
        )
        await eventually(lambda: bool(replies))
        assert publisher.unanswered == 1
        publisher.confirm(sending, 1)
        publisher.confirm(sending, 1)

        assert results == [PubAck(offset=1, duplicate=False)]
        assert publisher.unanswered == 0
    assert replies == [b""]


async def test_what_nobody_sees_in_its_stream_is_asked_for(bus: Bus) -> None:
    stream, results = await a_stream(bus), list[PubAckResult]()

    async with start_publisher(bus, attempt_seconds=0.05) as publisher:
        publisher.send(f"{stream}.pub.a", b"1", message_id="m", on_done=results.append, asks=False)
        await eventually(lambda: bool(results))

    assert results == [PubAck(offset=1, duplicate=True)]
    assert [message.payload for message in await read_all(bus, stream)] == [b"1"]


class Forgetful(Publisher):
    """Loses the first answer to every publication."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, attempt_seconds=0.05)
        self._answered: set[object] = set()

    def _take_answer(self, entry: Any, answer: bytes, headers: bytes | None) -> None:
        if entry in self._answered:
            super()._take_answer(entry, answer, headers)
        self._answered.add(entry)


async def test_what_was_stored_and_its_answer_lost_is_stored_once(bus: Bus) -> None:
    stream = await a_stream(bus)
    publisher = Forgetful(bus)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                publisher.publish(f"{stream}.pub.a", str(n).encode(), message_id=str(n))
            )
            for n in range(20)
        ]

    assert [task.result() for task in tasks] == [PubAck(n, duplicate=True) for n in range(1, 21)]
    assert len(await read_all(bus, stream)) == 20
    publisher.stop()


async def test_what_was_in_flight_when_the_connection_was_lost_is_sent_again_at_once(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    async with (
        connect_bus(server.url, name="test") as bus,
        start_publisher(bus, attempt_seconds=60) as publisher,
        asyncio.TaskGroup() as group,
    ):
        await bus.until_connected()
        stream = await a_stream(bus)
        server.pause()
        tasks = [
            group.create_task(
                publisher.publish(f"{stream}.pub.a", b"", message_id=str(n), deadline_seconds=60)
            )
            for n in range(5)
        ]
        await asyncio.sleep(0.05)  # for the flusher to have sent it
        server.kill()
        server.start()

        assert [(await task).offset for task in tasks] == [1, 2, 3, 4, 5]


async def test_no_stream_is_unavailable_at_the_deadline(bus: Bus) -> None:
    async with start_publisher(bus) as publisher:
        began_at = time.monotonic()
        with pytest.raises(BusUnavailable):
            await publisher.publish("no.stream", b"", message_id="a", deadline_seconds=0.3)

        assert 0.25 < time.monotonic() - began_at < 10
        assert publisher.unanswered == 0


async def test_a_stream_that_comes_late_still_gets_the_message(bus: Bus) -> None:
    name = f"t{uuid4().hex[:12]}"

    async with start_publisher(bus) as publisher, asyncio.TaskGroup() as group:
        publishing = group.create_task(
            publisher.publish(f"{name}.pub.a", b"", message_id="a", deadline_seconds=30)
        )
        await asyncio.sleep(0.1)  # so that it has been refused at least once
        assert not publishing.done()
        await a_stream(bus, name)

        assert (await publishing).offset == 1


async def test_the_end_of_the_publisher_ends_what_waits(bus: Bus) -> None:
    async def publish(publisher: Publisher) -> None:
        with pytest.raises(BusUnavailable):
            await publisher.publish("no.stream", b"", message_id="a", deadline_seconds=60)

    async with asyncio.TaskGroup() as group:
        async with start_publisher(bus, window=1) as publisher:
            tasks = [group.create_task(publish(publisher)) for _ in range(3)]
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            for task in tasks:
                await task
        await publish(publisher)


async def test_the_time_of_each_publication_is_reported(bus: Bus) -> None:
    stream, seconds = await a_stream(bus), list[float]()

    async with start_publisher(bus, on_published=seconds.append) as publisher:
        await publish_numbers(publisher, stream, range(3))
        with suppress(BusUnavailable):
            await publisher.publish("no.stream", b"", message_id="a", deadline_seconds=0.01)

    assert len(seconds) == 3
    assert all(0 < took < 5 for took in seconds)


async def test_during_an_outage_a_publication_waits_and_is_stored_or_gives_up_at_its_deadline(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    async with (
        connect_bus(server.url, name="test") as bus,
        start_publisher(bus) as publisher,
        asyncio.TaskGroup() as group,
    ):
        await bus.until_connected()
        stream = await a_stream(bus)
        server.kill()
        patient = [
            group.create_task(
                publisher.publish(
                    f"{stream}.pub.a", str(n).encode(), message_id=f"p{n}", deadline_seconds=30
                )
            )
            for n in range(20)
        ]
        with pytest.raises(BusUnavailable):
            await publisher.publish(
                f"{stream}.pub.a", b"gave up", message_id="hasty", deadline_seconds=0.3
            )
        server.start()

        assert [(await task).offset for task in patient] == list(range(1, 21))
        payloads = [message.payload for message in await read_all(bus, stream)]
        assert payloads == [str(n).encode() for n in range(20)]


async def test_nothing_in_flight_is_lost_or_doubled_by_kill_9(nats_server: StartServer) -> None:
    server = nats_server()
    acked: dict[str, int] = {}

    async def publish_until(stop: asyncio.Event, publisher: Publisher, key: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            message_id = f"{key}-{number}"
            stored = await publisher.publish(
                f"{stream}.pub.{key}",
                message_id.encode(),
                message_id=message_id,
                deadline_seconds=30,
            )
            acked[message_id] = stored.offset

    stop = asyncio.Event()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        stream = await a_stream(bus)
        async with asyncio.TaskGroup() as group:
            for key in range(20):
                group.create_task(publish_until(stop, publisher, str(key)))
            for _ in range(3):
                goal = len(acked) + 500
                await eventually(lambda goal=goal: len(acked) > goal, seconds=30)  # type: ignore[misc]
                server.kill()
                server.start()
            goal = len(acked) + 500
            await eventually(lambda: len(acked) > goal, seconds=30)
            stop.set()

        stored = {m.payload.decode(): m.sequence for m in await read_all(bus, stream)}
        total = (await js_api(bus, f"STREAM.INFO.{stream}"))["state"]["messages"]
        assert stored == acked
        assert total == len(acked)
