"""What fails comes again after a pause, and is in the end told as a failed event."""

import asyncio
import json
from dataclasses import replace

import pytest

from clients.python.tests.bus.consuming import (
    QUICK,
    SECONDS,
    OrderPaid,
    a_name,
    a_shop,
    consuming,
    failures_of,
    until_settled,
)
from hubbub_client.bus import EventFailed, Events, Received
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.work_queue import open_work_queue
from hubbub_client.nats.client import Bus
from tests.fixtures.waiting import eventually


async def test_what_fails_comes_again_after_a_pause(nats_url: str, bus: Bus) -> None:
    events, tries = Events(a_name(), limits=QUICK), list[int]()
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid, received: Received) -> None:
            tries.append(received.deliveries)
            if received.deliveries < 3:
                raise OSError("the mail server is away")

        async with consuming(events, nats_url):
            await shop.emit(OrderPaid(order_id=1))
            await eventually(lambda: len(tries) == 3)
            await until_settled(bus, events.name)

    assert tries == [1, 2, 3]


async def test_what_fails_too_often_is_told_as_a_failed_event_which_may_be_tried_again(
    nats_url: str, bus: Bus
) -> None:
    events, tries = Events(a_name(), limits=replace(QUICK, max_deliveries=2)), list[int]()
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid, received: Received) -> None:
            tries.append(received.deliveries)
            if len(tries) < 4:
                raise OSError("the mail server is away")

        async with failures_of(events, nats_url) as failures, consuming(events, nats_url):
            event_id = await shop.emit(OrderPaid(order_id=1))
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()
            await until_settled(bus, events.name)
            with pytest.raises(OSError, match="away"):
                await events.retry(failure)
            await events.retry(failure)

    assert tries == [1, 2, 3, 3]
    assert (failure.consumer, failure.deliveries) == (events.name, 2)
    assert failure.reason == "OSError: the mail server is away"
    assert failure.subject == f"events.{shop.service}.order_paid"
    assert json.loads(failure.payload)["id"] == event_id


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise KeyError


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("no \ud800"), "ValueError: no \\ud800"), (Unspeakable(), "Unspeakable")],
)
async def test_what_a_handler_raises_is_told_even_if_it_is_no_text(
    error: Exception, reason: str, nats_url: str, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events(a_name(), limits=replace(QUICK, max_deliveries=1))
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            raise error

        async with failures_of(events, nats_url) as failures, consuming(events, nats_url):
            await shop.emit(OrderPaid(order_id=1))
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()

    assert failure.reason == reason
    assert "consumer_begins_anew" not in caplog.text


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"not JSON", "no event: : Invalid JSON"),
        (b'{"type":"order_paid","data":{}}', "no event: id: missing"),
        (
            b'{"id":"e","type":"order_paid","data":{"order_id":"x"}}',
            "no OrderPaid: order_id: Input",
        ),
        (b"\xff\x00", "no event"),
    ],
)
async def test_what_can_never_be_handled_is_a_failed_event_at_once(
    nats_url: str, bus: Bus, payload: bytes, reason: str
) -> None:
    events, name = Events(a_name(), limits=QUICK), a_name()

    @events.on(OrderPaid, service=name)
    async def hear(event: OrderPaid) -> None:
        raise AssertionError("it can't be read")

    async with (
        failures_of(events, nats_url) as failures,
        consuming(events, nats_url),
        start_publisher(bus) as publisher,
    ):
        await publisher.publish(f"events.{name}.order_paid", payload, message_id=a_name())
        async with asyncio.timeout(SECONDS):
            failure = await failures.get()
        await until_settled(bus, events.name)

    assert failure.reason.startswith(reason)
    assert "input_value" not in failure.reason
    assert failure.deliveries == 1
    assert failure.payload == payload.decode(errors="backslashreplace")


async def test_an_event_whose_processes_died_is_a_failed_event_without_another_try(
    nats_url: str, bus: Bus
) -> None:
    events = Events(a_name(), begin="all", limits=replace(QUICK, max_deliveries=2))
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def kill(event: OrderPaid) -> None:
            raise AssertionError("it has killed enough processes")

        async with consuming(events, nats_url):
            pass  # the bus knows it now
        await shop.emit(OrderPaid(order_id=1))
        async with open_work_queue(bus, "EVENTS", events.name, pinned=False) as queue:
            for _ in range(2):
                [job] = await queue.take(1)
                job.nak(delay_seconds=0)  # as the ack wait does for a process that died
        async with failures_of(events, nats_url) as failures, consuming(events, nats_url):
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()

    assert "died" in failure.reason


async def test_a_consumer_says_once_that_it_has_nearly_all_that_it_may_have(
    nats_url: str, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    limits = replace(
        QUICK,
        max_unsettled=5,
        look_seconds=0.02,
        first_pause_seconds=600,
        longest_pause_seconds=600,
    )
    events = Events(a_name(), limits=limits)
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def fail(event: OrderPaid) -> None:
            raise OSError

        async with consuming(events, nats_url):
            for number in range(4):
                await shop.emit(OrderPaid(order_id=number))
            await eventually(lambda: "consumer_crowded" in caplog.text)
            await shop.emit(OrderPaid(order_id=4))
            await eventually(lambda: caplog.text.count("event_handler_failed") == 5)

    assert caplog.text.count("consumer_crowded") == 1
    assert "unsettled=4 at_most=5" in caplog.text


async def test_a_failed_event_that_fails_is_not_told_again(nats_url: str, bus: Bus) -> None:
    limits = replace(QUICK, max_deliveries=1)
    events, watching = Events(a_name(), limits=limits), Events(a_name(), limits=limits)
    tries = list[str]()
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def fail(event: OrderPaid) -> None:
            raise OSError

        @watching.on(EventFailed, service=events.name)
        async def fail_too(failure: EventFailed) -> None:
            tries.append(failure.consumer)
            raise OSError

        async with failures_of(watching, nats_url) as failures, consuming(watching, nats_url):
            async with consuming(events, nats_url):
                await shop.emit(OrderPaid(order_id=1))
                await eventually(lambda: tries == [events.name])
            await until_settled(bus, watching.name)

            assert failures.empty()


async def test_a_handler_that_takes_too_long_has_failed(nats_url: str, bus: Bus) -> None:
    limits = replace(QUICK, handler_seconds=0.1, max_deliveries=1)
    events, forever = Events(a_name(), limits=limits), asyncio.Event()
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            await forever.wait()

        async with failures_of(events, nats_url) as failures, consuming(events, nats_url):
            await shop.emit(OrderPaid(order_id=1))
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()

    assert failure.reason.startswith("TimeoutError")


async def test_a_handler_whose_own_task_was_cancelled_has_failed(nats_url: str, bus: Bus) -> None:
    events = Events(a_name(), limits=replace(QUICK, max_deliveries=1))
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            raise asyncio.CancelledError

        async with failures_of(events, nats_url) as failures, consuming(events, nats_url):
            await shop.emit(OrderPaid(order_id=1))
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()

    assert "cancelled" in failure.reason


async def test_of_a_long_reason_a_failed_event_says_the_beginning(nats_url: str, bus: Bus) -> None:
    limits = replace(QUICK, max_deliveries=1, max_reason_chars=20)
    events = Events(a_name(), limits=limits)
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def fail(event: OrderPaid) -> None:
            raise OSError("x" * 2_000_000)  # more than fits into a message

        async with failures_of(events, nats_url) as failures, consuming(events, nats_url):
            await shop.emit(OrderPaid(order_id=1))
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()

    assert failure.reason == "OSError: " + "x" * 11
