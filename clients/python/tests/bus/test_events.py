"""What is emitted is handled: by whom, how often, and what becomes of what fails."""

import asyncio
import json
from collections import Counter
from dataclasses import replace

import pytest
from pydantic import BaseModel

from clients.python.tests.bus.consuming import (
    QUICK,
    SECONDS,
    OrderLost,
    OrderPaid,
    OrderPaidV2,
    a_name,
    a_shop,
    consuming,
    failures_of,
    state_of,
    until_older,
    until_settled,
)
from hubbub_client.bus import EventFailed, Events, Received, connect
from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.work_queue import open_work_queue
from hubbub_client.nats.client import Bus
from tests.fixtures.waiting import eventually

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_handler_gets_the_event_and_if_it_asks_what_is_known_of_it(
    nats_url: str, bus: Bus
) -> None:
    events, heard = Events(a_name(), limits=QUICK), list[object]()

    @events.on(OrderPaid)
    async def first(event: OrderPaid) -> None:
        heard.append(event)

    @events.on(OrderPaidV2)
    async def second(event: OrderPaidV2, received: Received) -> None:
        heard.extend([event, received])

    name = a_name()
    async with connect(nats_url, service=name) as shop, consuming(events, nats_url):
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: len(heard) == 1)
        event_id = await shop.emit(OrderPaidV2(order_id=2, total="9.50"), traceparent=TRACE)
        await eventually(lambda: len(heard) == 3)

    assert heard[:2] == [OrderPaid(order_id=1), OrderPaidV2(order_id=2, total="9.50")]
    received = heard[2]
    assert isinstance(received, Received)
    assert (received.id, received.service) == (event_id, name)
    assert (received.traceparent, received.deliveries) == (TRACE, 1)


async def test_a_consumer_begins_with_what_is_published_from_then_on_or_with_all_there_is(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), Counter[str]()
    late, from_all = Events(a_name(), limits=QUICK), Events(a_name(), begin="all", limits=QUICK)

    @late.on(OrderPaid, service=name)
    async def hear_late(event: OrderPaid) -> None:
        heard[f"late {event.order_id}"] += 1

    @from_all.on(OrderPaid, service=name)
    async def hear_all(event: OrderPaid) -> None:
        heard[f"all {event.order_id}"] += 1

    async with connect(nats_url, service=name) as shop:
        await shop.emit(OrderPaid(order_id=1))
        async with consuming(late, nats_url), consuming(from_all, nats_url):
            await shop.emit(OrderPaid(order_id=2))
            await eventually(lambda: heard.total() == 3)

    assert heard == {"late 2": 1, "all 1": 1, "all 2": 1}


async def test_what_happens_while_no_process_runs_is_handled_by_the_next(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), list[int]()

    def a_process() -> Events:
        events = Events(f"{name}-mailer", limits=QUICK)

        @events.on(OrderPaid, service=name)
        async def hear(event: OrderPaid) -> None:
            heard.append(event.order_id)

        return events

    async with connect(nats_url, service=name) as shop:
        async with consuming(a_process(), nats_url):
            await shop.emit(OrderPaid(order_id=1))
            await eventually(lambda: heard == [1])
        await shop.emit(OrderPaid(order_id=2))
        async with consuming(a_process(), nats_url):
            await eventually(lambda: heard == [1, 2])


async def test_only_events_that_have_a_handler_come_at_all(nats_url: str, bus: Bus) -> None:
    events, heard = Events(a_name(), limits=QUICK), list[int]()
    async with a_shop(nats_url) as shop, a_shop(nats_url) as another:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            heard.append(event.order_id)

        async with consuming(events, nats_url):
            await another.emit(OrderPaid(order_id=1))
            await shop.emit(OrderLost(order_id=2))
            await shop.emit(OrderPaid(order_id=3))
            await eventually(lambda: heard == [3])

    delivered = (await state_of(bus, events.name))["delivered"]["consumer_seq"]
    assert delivered == 1


async def test_processes_of_one_name_share_the_events(nats_url: str, bus: Bus) -> None:
    name, shares = a_name(), Counter[str]()
    everybody_has_one = asyncio.Event()

    def a_process(who: str) -> Events:
        events = Events(f"{name}-mailer", limits=replace(QUICK, max_handlers=1))

        @events.on(OrderPaid, service=name)
        async def hear(event: OrderPaid) -> None:
            shares[who] += 1
            if len(shares) == 3:
                everybody_has_one.set()
            await everybody_has_one.wait()

        return events

    async with (
        connect(nats_url, service=name) as shop,
        consuming(a_process("a"), nats_url),
        consuming(a_process("b"), nats_url),
        consuming(a_process("c"), nats_url),
    ):
        for number in range(30):
            await shop.emit(OrderPaid(order_id=number))
        await eventually(lambda: shares.total() == 30)
        await until_settled(bus, f"{name}-mailer")

    assert shares.total() == 30
    assert len(shares) == 3


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


async def test_a_version_that_nobody_here_knows_waits_for_a_process_that_does(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), list[str]()
    old, new = (Events(f"{name}-mailer", limits=QUICK) for _ in range(2))
    async with connect(nats_url, service=name) as shop:

        @old.on(OrderPaid, service=name)
        @new.on(OrderPaid, service=name)
        async def hear(event: OrderPaid) -> None:
            heard.append("first")

        @new.on(OrderPaidV2, service=name)
        async def hear_second(event: OrderPaidV2) -> None:
            heard.append("second")

        async with consuming(old, nats_url):
            await shop.emit(OrderPaidV2(order_id=1, total="2"))
            await shop.emit(OrderPaid(order_id=1))
            await eventually(lambda: heard == ["first"])
            async with consuming(new, nats_url):
                await eventually(lambda: heard == ["first", "second"])


async def test_an_older_version_takes_away_nothing_that_a_newer_one_handles(
    nats_url: str, bus: Bus
) -> None:
    name, heard = a_name(), list[object]()
    old, new = (Events(f"{name}-mailer", limits=QUICK) for _ in range(2))

    async def hear(event: BaseModel) -> None:
        heard.append(event)

    old.on(OrderPaid, service=name)(hear)
    new.on(OrderPaid, service=name)(hear)
    new.on(OrderLost, service=name)(hear)

    async with connect(nats_url, service=name) as shop, consuming(new, nats_url):
        async with consuming(old, nats_url):
            await shop.emit(OrderLost(order_id=1))
            await eventually(lambda: heard == [OrderLost(order_id=1)])
        await shop.emit(OrderLost(order_id=2))
        await eventually(lambda: heard[1:] == [OrderLost(order_id=2)])


async def test_what_others_took_away_or_nobody_handles_any_more_is_put_right(
    nats_url: str, bus: Bus
) -> None:
    events = Events(a_name(), limits=replace(QUICK, look_seconds=0.05))

    @events.on(OrderPaid)
    async def hear(event: OrderPaid) -> None: ...

    events.off(OrderLost)
    async with consuming(events, nats_url):
        config = (await state_of(bus, events.name))["config"]
        others = ["events.*.order_lost", "events.shop.order_sent"]
        await JetStreamApi(bus).create_consumer("EVENTS", config | {"filter_subjects": others})

        async with asyncio.timeout(SECONDS):
            while (subjects := await subjects_of(bus, events)) == others:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await JetStreamApi(bus).request("CONSUMER.DELETE", "EVENTS", events.name)
            while (again := await subjects_of(bus, events)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    assert subjects == again == ["events.*.order_paid", "events.shop.order_sent"]


async def subjects_of(bus: Bus, events: Events) -> list[str] | None:
    found = await JetStreamApi(bus).consumer_info("EVENTS", events.name)
    return None if found is None else list(found.config["filter_subjects"])


async def test_a_version_that_nobody_knows_is_a_failed_event_in_the_end(
    nats_url: str, bus: Bus
) -> None:
    events = Events(a_name(), limits=replace(QUICK, max_deliveries=2))
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            raise AssertionError("it is another version")

        async with failures_of(events, nats_url) as failures, consuming(events, nats_url):
            await shop.emit(OrderPaidV2(order_id=1, total="2"))
            async with asyncio.timeout(SECONDS):
                failure = await failures.get()

    assert failure.reason == "NoHandler: no handler for order_paid, version 2"
    assert failure.deliveries == 2


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


async def test_a_long_handler_keeps_its_event(nats_url: str, bus: Bus) -> None:
    name, begun, may_end = a_name(), list[int](), asyncio.Event()

    def a_process() -> Events:
        events = Events(f"{name}-mailer", limits=replace(QUICK, ack_wait_seconds=1))

        @events.on(OrderPaid, service=name)
        async def hear(event: OrderPaid) -> None:
            begun.append(event.order_id)
            await may_end.wait()

        return events

    async with (
        connect(nats_url, service=name) as shop,
        consuming(a_process(), nats_url),
        consuming(a_process(), nats_url),
    ):
        await shop.emit(OrderPaid(order_id=1))
        await eventually(lambda: begun == [1])
        await until_older(bus, f"{name}-mailer", seconds=2)
        may_end.set()
        await until_settled(bus, f"{name}-mailer")

    assert begun == [1]


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


async def test_no_more_handlers_run_at_a_time_than_are_allowed(nats_url: str, bus: Bus) -> None:
    events, most = Events(a_name(), limits=replace(QUICK, max_handlers=3)), list[int]()
    running = 0
    async with a_shop(nats_url) as shop:

        @events.on(OrderPaid, service=shop.service)
        async def hear(event: OrderPaid) -> None:
            nonlocal running
            running += 1
            most.append(running)
            await asyncio.sleep(0)
            running -= 1

        async with consuming(events, nats_url):
            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(shop.emit(OrderPaid(order_id=number)))
            await eventually(lambda: len(most) == 50)

    assert 1 < max(most) <= 3


async def test_a_consumer_follows_its_handlers(nats_url: str, bus: Bus) -> None:
    name = a_name()

    async def ignore(event: BaseModel) -> None:
        return

    before, after = Events(f"{name}-mailer", limits=QUICK), Events(f"{name}-mailer", limits=QUICK)
    before.on(OrderPaid)(ignore)
    after.on(OrderPaid)(ignore)
    after.on(OrderPaidV2)(ignore)
    after.on(OrderPaid, service=name)(ignore)
    after.on(OrderLost, service=name)(ignore)

    filters = []
    for events in (before, before, after):
        async with consuming(events, nats_url):
            filters.append((await state_of(bus, events.name))["config"]["filter_subjects"])

    assert filters[0] == filters[1] == ["events.*.order_paid"]
    assert filters[2] == ["events.*.order_paid", f"events.{name}.order_lost"]


async def test_a_consumer_without_handlers_and_a_malformed_url_are_refused(nats_url: str) -> None:
    events = Events(a_name())
    with pytest.raises(ValueError, match="no handler"):
        await events.run(nats_url)

    async def ignore(event: OrderPaid) -> None:
        return

    events.on(OrderPaid)(ignore)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(ValueError, match=r"127\.0\.0\.1:none"):
            await events.run("nats://127.0.0.1:none")
    for name in ("notify", "", "A", "a.b", "*", "a" * 33):
        with pytest.raises(ValueError, match=r"notify|called"):
            Events(name)


async def test_what_the_body_raises_is_raised(nats_url: str, bus: Bus) -> None:
    events = Events(a_name(), limits=QUICK)

    async def ignore(event: OrderPaid) -> None:
        return

    events.on(OrderPaid)(ignore)
    with pytest.raises(KeyError, match="broken"):
        async with events.running(nats_url):
            raise KeyError("broken")
