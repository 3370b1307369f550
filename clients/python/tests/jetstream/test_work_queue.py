"""A work queue on a real server."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

import pytest

from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.work_queue import Job, WorkQueue, WorkQueueLimits, open_work_queue
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.nats.errors import BusUnavailable
from shared.jetstream.stream_configs import NOTIFY_CONSUMER, StreamSettings
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually

LONG_ACK_WAIT = StreamSettings(notify_ack_seconds=600)
"""So long that a test fails if it has to wait for it, and that no job comes again by itself."""

CONSUMER_INFO = f"$JS.API.CONSUMER.INFO.EVENTS.{NOTIFY_CONSUMER}"


@pytest.fixture
async def own_bus(nats_server: Callable[[], NatsServer]) -> AsyncGenerator[Bus]:
    """A server of the test's own, since all tests on one server would share the consumer."""
    async with connect_bus(nats_server().url, name="test") as bus:
        await bootstrap(bus, LONG_ACK_WAIT)
        yield bus


@pytest.fixture
async def queue(own_bus: Bus) -> AsyncGenerator[WorkQueue]:
    async with open_work_queue(own_bus, "EVENTS", NOTIFY_CONSUMER) as queue:
        yield queue


@pytest.fixture
async def own_publisher(own_bus: Bus) -> AsyncGenerator[Publisher]:
    async with start_publisher(own_bus) as publisher:
        yield publisher


async def add(publisher: Publisher, *payloads: bytes) -> None:
    for payload in payloads:
        await publisher.publish("events.test.x", payload, message_id=str(uuid.uuid4()))


async def until_taken(queue: WorkQueue, limit: int = 10) -> list[Job]:
    async with asyncio.timeout(10):
        while True:
            jobs = await queue.take(limit)
            if jobs:
                return jobs


async def test_jobs_come_in_order_and_no_more_than_were_asked_for(
    queue: WorkQueue, own_publisher: Publisher
) -> None:
    await add(own_publisher, b"1", b"2", b"3")

    taken: list[bytes] = []
    while len(taken) < 3:
        jobs = await until_taken(queue, 2)
        assert len(jobs) <= 2
        taken += [job.payload for job in jobs]

    assert taken == [b"1", b"2", b"3"]


async def test_a_job_knows_its_sequence_its_time_and_how_often_it_was_delivered(
    queue: WorkQueue, own_publisher: Publisher
) -> None:
    before = datetime.now(UTC)
    await add(own_publisher, b"1")

    [job] = await until_taken(queue)

    assert (job.sequence, job.deliveries) == (1, 1)
    assert job.stored_at is not None
    assert before <= job.stored_at <= datetime.now(UTC)


async def test_a_job_that_could_not_be_done_is_redelivered_and_those_that_are_settled_are_not(
    queue: WorkQueue, own_bus: Bus, own_publisher: Publisher
) -> None:
    await add(own_publisher, b"done", b"hopeless", b"later")
    jobs: list[Job] = []
    while len(jobs) < 3:
        jobs += await until_taken(queue)
    jobs[0].ack()
    jobs[1].term()
    jobs[2].nak(delay_seconds=0)

    [later] = await until_taken(queue)

    assert (later.payload, later.deliveries) == (b"later", 2)
    answer = await own_bus.request(CONSUMER_INFO, b"", timeout_seconds=10)
    assert json.loads(answer)["num_ack_pending"] == 1, "all others are settled"


async def test_a_job_that_is_forgotten_is_redelivered_after_the_ack_wait(
    own_bus: Bus, own_publisher: Publisher
) -> None:
    await bootstrap(own_bus, StreamSettings(notify_ack_seconds=1))
    never_reports = WorkQueueLimits(progress_seconds=600)
    async with open_work_queue(own_bus, "EVENTS", NOTIFY_CONSUMER, never_reports) as queue:
        await add(own_publisher, b"forgotten")
        [first] = await until_taken(queue, 1)
        [again] = await until_taken(queue, 1)

    assert (first.payload, first.deliveries) == (b"forgotten", 1)
    assert (again.payload, again.deliveries) == (b"forgotten", 2)


async def test_a_process_that_waits_gets_a_job_as_soon_as_there_is_one(
    own_bus: Bus, own_publisher: Publisher
) -> None:
    asks_once = WorkQueueLimits(wait_seconds=60)
    async with (
        open_work_queue(own_bus, "EVENTS", NOTIFY_CONSUMER, asks_once) as queue,
        asyncio.TaskGroup() as group,
    ):
        waiting = group.create_task(until_taken(queue))
        await asyncio.sleep(0)
        await add(own_publisher, b"1")
        await eventually(waiting.done)

    assert [job.payload for job in waiting.result()] == [b"1"]


async def test_without_jobs_take_returns_none_after_a_while(own_bus: Bus) -> None:
    async with open_work_queue(
        own_bus, "EVENTS", NOTIFY_CONSUMER, WorkQueueLimits(wait_seconds=0.1)
    ) as queue:
        assert await queue.take(10) == []
        assert await queue.take(10) == []


async def test_a_queue_that_closes_returns_jobs_that_were_not_taken(
    own_bus: Bus, own_publisher: Publisher
) -> None:
    async with open_work_queue(own_bus, "EVENTS", NOTIFY_CONSUMER) as closing:
        await add(own_publisher, b"taken")
        [job] = await until_taken(closing, 3)
        job.ack()
        await add(own_publisher, b"left", b"left")  # the request for three is still open
        await eventually(lambda: closing.waiting == 2)

    async with open_work_queue(own_bus, "EVENTS", NOTIFY_CONSUMER) as queue:
        jobs = await until_taken(queue)

    assert {job.payload for job in jobs} == {b"left"}


async def test_a_consumer_that_does_not_exist_is_unavailable(own_bus: Bus) -> None:
    async with open_work_queue(own_bus, "EVENTS", "nobody") as queue:
        with pytest.raises(BusUnavailable, match="no such consumer"):
            await queue.take(1)


async def test_a_server_that_comes_back_is_asked_again(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        async with (
            open_work_queue(
                bus, "EVENTS", NOTIFY_CONSUMER, WorkQueueLimits(wait_seconds=60)
            ) as queue,
            asyncio.TaskGroup() as group,
        ):
            waiting = group.create_task(until_taken(queue))
            await asyncio.sleep(0)
            server.kill()
            await eventually(lambda: not bus.connected)
            server.start()
            await bus.until_connected()
            await add(publisher, b"after")

    assert [job.payload for job in waiting.result()] == [b"after"]


@pytest.mark.parametrize(
    "subject",
    [
        "$JS.ACK.EVENTS.notify.3.17.99.1795439553540499862.5",
        "$JS.ACK.domain.hash.EVENTS.notify.3.17.99.1795439553540499862.5",
        "$JS.ACK._.hash.EVENTS.notify.3.17.99.1795439553540499862.5.token",
    ],
)
async def test_every_form_of_an_ack_subject_is_read(bus: Bus, subject: str) -> None:
    job = Job(bus, b"", subject)

    assert (job.deliveries, job.sequence) == (3, 17)
    assert job.stored_at == datetime(2026, 11, 23, 13, 12, 33, 540499, UTC)


async def test_a_job_with_an_unknown_ack_subject_is_taken_and_acked_there(
    queue: WorkQueue, own_bus: Bus, own_publisher: Publisher
) -> None:
    address = "$JS.ACK.EVENTS.notify.of.some.later.server"
    answers: list[bytes] = []
    await own_bus.subscribe(address, lambda _subject, answer, *_: answers.append(answer))
    # A client can't send a message with such a reply subject.
    queue.on_message(b"", b"odd", None, address.encode())
    queue.on_message(b"", b"forged", None, b"anybodys.inbox")
    await add(own_publisher, b"next")

    jobs: list[Job] = []
    while len(jobs) < 2:
        jobs += await until_taken(queue)
    jobs[0].ack()

    assert [job.payload for job in jobs] == [b"odd", b"next"]
    assert (jobs[0].deliveries, jobs[0].stored_at) == (2, None)
    await eventually(lambda: answers == [b"+ACK"])


async def test_a_queue_that_closes_returns_taken_jobs_too(
    own_bus: Bus, own_publisher: Publisher
) -> None:
    await add(own_publisher, b"1", b"2", b"3")
    async with open_work_queue(own_bus, "EVENTS", NOTIFY_CONSUMER) as closing:
        first = await until_taken(closing, 1)
        assert closing.unsettled == 1

    async with open_work_queue(own_bus, "EVENTS", NOTIFY_CONSUMER) as queue:
        again: list[Job] = []
        while len(again) < 3:
            again += await until_taken(queue)

    assert [job.payload for job in first] == [b"1"]
    assert {job.payload: job.deliveries for job in again} == {b"1": 2, b"2": 1, b"3": 1}
