"""Whatever dies, stops or is late: each event is published once, and in its order."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.notify import Notifier
from hubbub_client.contracts.channels import personal_channel
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.ids import UserId
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import event_message_id, publication_subject
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.jetstream.work_queue import WorkQueueLimits, open_work_queue
from hubbub_client.nats.errors import BusUnavailable
from shared.jetstream.stream_configs import NOTIFY_CONSUMER, StreamSettings
from shared.runtime.process import running
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.notify.notifying import ANN, POST, Notifying, a_like, connected

WORKER = Path(__file__).with_name("worker.py")

FORGETFUL = StreamSettings(rt_dedupe_seconds=0.3, notify_ack_seconds=600)
"""Message ids are forgotten soon; an event is redelivered only when its notifier gives it back."""


async def test_a_redelivered_event_is_published_once_though_its_id_is_forgotten(
    server: NatsServer,
) -> None:
    async with connected(server, FORGETFUL) as notifying:
        event = a_like()
        await notifying.publish(event)
        async with open_work_queue(notifying.bus, "EVENTS", NOTIFY_CONSUMER) as dies_after_this:
            [_job] = await dies_after_this.take(1)
        await notifying.publisher.publish(
            publication_subject(personal_channel(ANN)),
            Publication(data=event.to_publication_data(), event_id=event.id).encode(),
            message_id=event_message_id(event.id, personal_channel(ANN)),
        )
        await notifying.until_ids_are_forgotten()

        await notifying.handle()

        assert await notifying.event_ids(personal_channel(ANN)) == [event.id]
        assert notifying.counted == {"found": 1}


@pytest.mark.parametrize("slow_by_seconds", [0, 600])
async def test_an_event_that_an_outbox_sends_again_much_later_is_published_once(
    server: NatsServer, slow_by_seconds: float
) -> None:
    async with connected(server, FORGETFUL) as notifying:
        event = a_like(time=datetime.now(UTC) - timedelta(seconds=200))
        async with running(notifying.notifier(now=lambda: our_clock() - slow_by_seconds).run):
            await notifying.publish(event, message_id="first")
            await notifying.until_all_acked()
            await notifying.until_ids_are_forgotten()
            await notifying.publish(event, message_id="again")
            await notifying.until_all_acked()

        assert await notifying.event_ids(personal_channel(ANN)) == [event.id]
        assert notifying.counted == {"published": 1, "found": 1}


@pytest.fixture
def worker() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts processes that run a notifier, and kills those that are left."""
    workers: list[subprocess.Popen[bytes]] = []

    def start(url: str) -> subprocess.Popen[bytes]:
        workers.append(
            subprocess.Popen([sys.executable, str(WORKER), url], stdout=subprocess.DEVNULL)
        )
        return workers[-1]

    yield start
    for each in workers:
        each.kill()
        each.wait()


async def test_after_a_worker_is_killed_each_event_is_published_once(
    server: NatsServer, worker: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    async with connected(server, replace(FORGETFUL, notify_ack_seconds=1)) as notifying:
        seen: list[bytes] = []
        await notifying.bus.subscribe("rt.live.>", lambda subject, *_: seen.append(subject))
        doomed = worker(server.url)
        events: list[Envelope] = []
        while len(seen) < 300:  # so that it is killed while it handles a batch
            # It takes a while to start, and what is left over would take us even longer.
            await eventually(lambda: len(seen) >= len(events) - 50, seconds=30)
            batch = [a_like() for _ in range(50)]
            events.extend(batch)
            await notifying.publish(*batch)
        doomed.kill()
        doomed.wait()

        await notifying.handle()

        published = Counter(await notifying.event_ids(personal_channel(ANN)))
        assert published == Counter(event.id for event in events)


async def test_a_bus_that_is_away_for_a_while_only_delays_events(server: NatsServer) -> None:
    # What was on its way when the server died comes again only after the ack wait.
    settings = StreamSettings(rt_dedupe_seconds=60, notify_ack_seconds=1)
    async with connected(server, settings) as notifying:
        queue = WorkQueueLimits(wait_seconds=0.5)
        notifying.limits = replace(notifying.limits, queue=queue)
        events = [a_like() for _ in range(100)]
        await notifying.publish(*events[:50])
        async with running(notifying.notifier().run):
            await eventually(lambda: notifying.counted["published"] > 0)
            server.kill()
            server.start()
            await notifying.bus.until_connected()
            await notifying.publish(*events[50:])
            await notifying.until_all_acked(seconds=30)

        published = Counter(await notifying.event_ids(personal_channel(ANN)))
        assert published == Counter(event.id for event in events)


async def test_one_gateway_notifies_in_order_and_another_takes_over_when_it_stops(
    server: NatsServer,
) -> None:
    async with connected(server) as one, connected(server) as other:
        events = [a_like(channels=(POST,)) for _ in range(300)]
        async with running(other.notifier().run):
            async with running(one.notifier().run):
                await one.publish(*events[:150])
                await one.until_all_acked()
            assert 0 in (one.counted["published"], other.counted["published"])
            await one.publish(*events[150:])
            await one.until_all_acked()

        for channel in (personal_channel(ANN), POST):
            assert await one.event_ids(channel) == [event.id for event in events]


class FailsOnce(Publisher):
    """A publisher whose first message gets no answer."""

    has_failed = False

    async def publish(self, *arguments: Any, **options: Any) -> PubAck:
        if not self.has_failed:
            self.has_failed = True
            raise BusUnavailable("no answer")
        return await super().publish(*arguments, **options)


async def test_no_event_overtakes_one_that_has_to_be_published_again(
    notifying: Notifying,
) -> None:
    failing = Notifier(
        notifying.bus, FailsOnce(notifying.bus), notifying.history, limits=notifying.limits
    )
    events = [a_like() for _ in range(20)]
    await notifying.publish(*events)

    async with running(failing.run):
        await notifying.until_all_acked()

    published = await notifying.event_ids(personal_channel(ANN))
    assert published == [event.id for event in events]


async def test_a_notifier_that_stops_returns_its_events_at_once(server: NatsServer) -> None:
    async with connected(server, FORGETFUL) as notifying:
        stuck, publisher = notifying.stuck_notifier()
        await notifying.publish(a_like())
        async with running(stuck.run):
            await eventually(lambda: publisher.unanswered == 1)

        await notifying.handle()

        assert notifying.counted["published"] == 1


async def test_a_notifier_that_stops_returns_events_that_it_has_not_begun(
    server: NatsServer,
) -> None:
    async with connected(server, FORGETFUL) as notifying:
        notifying.limits = replace(notifying.limits, max_events=2)
        stuck, publisher = notifying.stuck_notifier()
        await notifying.publish(*(a_like(recipients=(UserId(str(n)),)) for n in range(1, 7)))
        async with running(stuck.run):
            await eventually(lambda: publisher.unanswered == 2)
            await notifying.acked_up_to()  # after its answer, all that was pulled has come too

        await notifying.handle()

        assert notifying.counted["published"] == 6


async def test_an_event_that_waits_behind_another_is_reported_to_be_in_progress(
    notifying: Notifying,
) -> None:
    reported: set[tuple[int, bytes]] = set()  # the event's sequence, and the report

    def on_ack(subject: bytes, ack: bytes, *_rest: object) -> None:
        reported.add((int(subject.split(b".")[5]), ack))

    await notifying.bus.subscribe("$JS.ACK.EVENTS.notify.>", on_ack)
    notifying.limits = replace(
        notifying.limits, publish_seconds=0.1, queue=WorkQueueLimits(progress_seconds=0.05)
    )
    stuck, _ = notifying.stuck_notifier()
    await notifying.publish(a_like(), a_like())

    async with running(stuck.run):
        await eventually(lambda: {(1, b"+WPI"), (2, b"+WPI")} <= reported)
