"""Events become publications, each exactly once in its channel, whoever dies over it."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.notify import Notifier, NotifyCounters, NotifyLimits
from gateway.streams.history import History
from gateway.streams.work_queue import WorkQueueLimits, open_work_queue
from shared.contracts.channels import personal_channel
from shared.contracts.events import Envelope
from shared.contracts.ids import ChannelName, UserId
from shared.contracts.publications import Publication
from shared.jetstream.clock import our_clock
from shared.jetstream.publisher import PubAck, Publisher, start_publisher
from shared.jetstream.stream_configs import NOTIFY_CONSUMER, StreamSettings
from shared.jetstream.stream_reader import StreamReader
from shared.jetstream.streams import bootstrap
from shared.jetstream.subjects import event_message_id, publication_subject
from shared.nats.client import Bus, connect_bus
from shared.nats.errors import BusUnavailable
from shared.runtime.process import running
from shared.runtime.supervision import Loop, Supervisor
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.shared.jetstream.builders import publish_event

ANN, BOB = UserId("1"), UserId("2")
POST = ChannelName("post:7")
WORKER = Path(__file__).with_name("notify_worker.py")

FORGETFUL = StreamSettings(rt_dedupe_seconds=0.3, notify_ack_seconds=1)
"""Ids are forgotten long before an event comes again."""


@dataclass
class Notifying:
    """A server with streams, and what it takes to notify."""

    bus: Bus
    publisher: Publisher
    history: History
    limits: NotifyLimits
    counted: Counter[str]
    probed: bool = False

    def notifier(self, *, now: Callable[[], float] = our_clock) -> Notifier:
        counters = NotifyCounters(
            published=lambda: self.counted.update(["published"]),
            found=lambda: self.counted.update(["found"]),
            unreadable=lambda: self.counted.update(["unreadable"]),
            refused=lambda: self.counted.update(["refused"]),
            retried=lambda: self.counted.update(["retried"]),
        )
        return Notifier(
            self.bus,
            self.publisher,
            self.history,
            counters=counters,
            limits=self.limits,
            now=now,
        )

    async def tell(self, event: Envelope, *, message_id: str | None = None) -> None:
        """As a service's outbox does; under another message id, as one that was away for long."""
        await publish_event(self.publisher, event, message_id=message_id)

    async def heard_in(self, channel: ChannelName) -> list[Publication]:
        end = (await self.history.state()).last
        kept = await self.history.last(channel, 100_000, up_to=end)
        return [Publication.decode(each.payload) for each in kept]

    async def answered_up_to(self) -> int:
        call = "$JS.API.CONSUMER.INFO.EVENTS.notify"
        info = json.loads(await self.bus.request(call, b"", timeout_seconds=2))
        return int(info["ack_floor"]["stream_seq"])

    async def until_ids_are_forgotten(self) -> None:
        """Until nothing that was published before is within the dedupe window any more."""
        async with asyncio.timeout(10):
            while True:
                probe = await self.publisher.publish("rt.pub.probe", b"{}", message_id="probe")
                if self.probed and not probe.duplicate:
                    return
                self.probed = True
                await asyncio.sleep(0.05)

    async def until_all_is_answered(self, *, seconds: float = 20) -> None:
        # What the consumer has yet to hear of is in no count of its own, so ask the stream.
        last = (await StreamReader(self.bus, "EVENTS").state()).last
        async with asyncio.timeout(seconds):
            while await self.answered_up_to() < last:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@asynccontextmanager
async def connected(
    server: NatsServer, settings: StreamSettings | None = None
) -> AsyncGenerator[Notifying]:
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus, settings)
        history = History(StreamReader(bus, "RT"))
        yield Notifying(
            bus, publisher, history, NotifyLimits(publish_seconds=5, retry_seconds=0.05), Counter()
        )


@pytest.fixture
async def notifying(nats_server: Callable[[], NatsServer]) -> AsyncGenerator[Notifying]:
    async with connected(nats_server()) as notifying:
        yield notifying


def a_like(**changes: Any) -> Envelope:
    return Envelope(
        **{"type": "post_liked", "recipients": (ANN,), "data": {"post_id": 7}, **changes}
    )


async def test_an_event_is_published_once_to_each_recipient_and_channel(
    notifying: Notifying,
) -> None:
    event = a_like(recipients=(ANN, BOB, ANN), channels=(POST, personal_channel(ANN)))

    async with running(notifying.notifier().run):
        await notifying.tell(event)
        await notifying.until_all_is_answered()

    expected = Publication(
        data={"post_id": 7, "event": "post_liked", "id": event.id}, event_id=event.id
    )
    for channel in (personal_channel(ANN), personal_channel(BOB), POST):
        assert await notifying.heard_in(channel) == [expected]
    assert notifying.counted == {"published": 3}


async def test_a_type_of_event_that_nobody_knows_is_published_like_any_other(
    notifying: Notifying,
) -> None:
    async with running(notifying.notifier().run):
        await notifying.tell(a_like(type="comet_seen", data={"magnitude": 2}))
        await notifying.until_all_is_answered()

    [publication] = await notifying.heard_in(personal_channel(ANN))
    assert publication.data["event"] == "comet_seen"


async def test_what_happened_before_the_start_is_notified_in_order(notifying: Notifying) -> None:
    for number in range(20):
        await notifying.tell(a_like(data={"like_count": number}))

    async with running(notifying.notifier().run):
        await notifying.until_all_is_answered()

    publications = await notifying.heard_in(personal_channel(ANN))
    assert [each.data["like_count"] for each in publications] == list(range(20))


async def test_more_recipients_than_are_done_at_a_time_all_hear_of_it(
    notifying: Notifying,
) -> None:
    notifying.limits = replace(notifying.limits, max_publications=7)
    users = [UserId(str(number)) for number in range(1, 31)]

    async with running(notifying.notifier().run):
        await notifying.tell(a_like(recipients=tuple(users)))
        await notifying.until_all_is_answered()

    for user in users:
        assert len(await notifying.heard_in(personal_channel(user))) == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"[]",
        b'{"v":2,"id":"1","type":"x","data":{}}',
        b'{"type":"without_an_id","data":{},"recipients":[1]}',
        b'{"id":"1","type":"x","data":{},"recipients":["a n"]}',
        b'{"id":"1","type":"x","data":{},"channels":["no channel"]}',
        b'{"id":"1","type":"x","data":{"a":"\\ud800"},"recipients":[1]}',
        b'{"id":"1","type":"x","data":{"a":1e400},"recipients":[1]}',
        b'{"id":"1","type":"x","data":{"a":NaN},"recipients":[1]}',
        b'{"id":"1","type":"x","data":{"a":%b%b},"recipients":[1]}' % (b"[" * 60, b"]" * 60),
        b"\xff",
    ],
)
async def test_what_is_no_event_is_set_aside_and_the_next_one_is_notified(
    notifying: Notifying, payload: bytes
) -> None:
    async with running(notifying.notifier().run):
        await notifying.publisher.publish("events.posts.x", payload, message_id="unreadable")
        await notifying.tell(a_like())
        await notifying.until_all_is_answered()

    assert notifying.counted == {"unreadable": 1, "published": 1}


async def test_a_notifier_that_failed_goes_on_with_what_it_had_not_begun(
    notifying: Notifying,
) -> None:
    faults = [ZeroDivisionError()]

    def count_unreadable() -> None:
        notifying.counted.update(["unreadable"])
        if faults:
            raise faults.pop()

    notifier = Notifier(
        notifying.bus,
        notifying.publisher,
        notifying.history,
        counters=NotifyCounters(unreadable=count_unreadable),
        limits=notifying.limits,
    )
    await notifying.tell(a_like())
    await notifying.publisher.publish("events.posts.x", b"no event", message_id="unreadable")

    async with Supervisor().running(Loop("notify", notifier.run)):
        await notifying.until_all_is_answered()

    assert notifying.counted == {"unreadable": 2}
    assert len(await notifying.heard_in(personal_channel(ANN))) == 1


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31"])
async def test_an_odd_time_does_no_harm(notifying: Notifying, time: str) -> None:
    event = a_like().model_copy(update={"time": datetime.fromisoformat(time)})

    async with running(notifying.notifier().run):
        await notifying.tell(event)
        await notifying.until_all_is_answered()

    assert len(await notifying.heard_in(personal_channel(ANN))) == 1
    assert notifying.counted == {"published": 1}


async def test_what_can_never_be_published_does_not_keep_the_others_waiting(
    notifying: Notifying,
) -> None:
    event_id = "x" * 64  # a publication bears it twice, an event once
    barely_fits = b'{"type":"long","id":"%b","recipients":[1],"data":{"text":"' % event_id.encode()
    barely_fits += b"x" * (notifying.bus.max_payload - len(barely_fits) - 40) + b'"}}'

    async with running(notifying.notifier().run):
        await notifying.publisher.publish("events.posts.long", barely_fits, message_id="1")
        await notifying.tell(a_like())
        await notifying.until_all_is_answered()

    assert notifying.counted == {"refused": 1, "published": 1}


async def test_a_redelivered_event_is_published_once_though_its_id_is_forgotten(
    nats_server: Callable[[], NatsServer],
) -> None:
    async with connected(nats_server(), FORGETFUL) as notifying:
        event = a_like()
        await notifying.tell(event)
        async with open_work_queue(notifying.bus, "EVENTS", NOTIFY_CONSUMER) as died_with_it:
            [_job] = await died_with_it.take(1)
        await notifying.publisher.publish(
            publication_subject(personal_channel(ANN)),
            Publication(data=event.to_publication_data(), event_id=event.id).encode(),
            message_id=event_message_id(event.id, personal_channel(ANN)),
        )
        await notifying.until_ids_are_forgotten()

        async with running(notifying.notifier().run):
            await notifying.until_all_is_answered()

        assert len(await notifying.heard_in(personal_channel(ANN))) == 1
        assert notifying.counted == {"found": 1}


async def test_an_event_that_an_outbox_tells_again_much_later_is_published_once(
    nats_server: Callable[[], NatsServer],
) -> None:
    async with connected(nats_server(), FORGETFUL) as notifying:
        event = a_like(time=datetime.now(UTC) - timedelta(seconds=200))
        async with running(notifying.notifier().run):
            await notifying.tell(event, message_id="first")
            await notifying.until_all_is_answered()
            await notifying.until_ids_are_forgotten()
            await notifying.tell(event, message_id="again")
            await notifying.until_all_is_answered()

        assert len(await notifying.heard_in(personal_channel(ANN))) == 1
        assert notifying.counted == {"published": 1, "found": 1}


async def test_a_clock_that_is_slow_makes_no_old_event_a_new_one(
    nats_server: Callable[[], NatsServer],
) -> None:
    async with connected(nats_server(), FORGETFUL) as notifying:
        event = a_like(time=datetime.now(UTC) - timedelta(seconds=200))
        async with running(notifying.notifier(now=lambda: our_clock() - 600).run):
            await notifying.tell(event, message_id="first")
            await notifying.until_all_is_answered()
            await notifying.until_ids_are_forgotten()
            await notifying.tell(event, message_id="again")
            await notifying.until_all_is_answered()

        assert len(await notifying.heard_in(personal_channel(ANN))) == 1


@pytest.fixture
def worker() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts notifying processes, and leaves none behind."""
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


async def test_a_worker_killed_over_a_batch_leaves_nothing_undone_and_nothing_doubled(
    nats_server: Callable[[], NatsServer],
    worker: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    server = nats_server()
    async with connected(server, FORGETFUL) as notifying:
        seen: list[bytes] = []
        await notifying.bus.subscribe("rt.live.>", lambda subject, *_: seen.append(subject))
        doomed = worker(server.url)
        ids = []
        while len(seen) < 300:  # it works on one batch after the other
            for _ in range(50):
                event = a_like(id=str(uuid.uuid4()))
                ids.append(event.id)
                await notifying.tell(event)
        doomed.kill()
        doomed.wait()

        async with running(notifying.notifier().run):
            await notifying.until_all_is_answered()

        heard = Counter(each.event_id for each in await notifying.heard_in(personal_channel(ANN)))
        assert heard == Counter(ids)


async def test_a_bus_that_goes_away_in_between_only_delays(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    async with connected(server, replace(FORGETFUL, rt_dedupe_seconds=60)) as notifying:
        notifying.limits = replace(notifying.limits, queue=WorkQueueLimits(wait_seconds=0.5))
        ids = [str(uuid.uuid4()) for _ in range(100)]
        for event_id in ids[:50]:
            await notifying.tell(a_like(id=event_id))
        async with running(notifying.notifier().run):
            await eventually(lambda: notifying.counted["published"] > 0)
            server.kill()
            server.start()
            await notifying.bus.until_connected()
            for event_id in ids[50:]:
                await notifying.tell(a_like(id=event_id))
            await notifying.until_all_is_answered(seconds=30)

        heard = Counter(each.event_id for each in await notifying.heard_in(personal_channel(ANN)))
        assert heard == Counter(ids)


async def test_one_gateway_notifies_in_order_and_another_takes_over_when_it_stops(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    async with connected(server) as one, connected(server) as other:
        ids = [str(uuid.uuid4()) for _ in range(300)]
        async with running(other.notifier().run):
            async with running(one.notifier().run):
                for event_id in ids[:150]:
                    await one.tell(a_like(id=event_id, channels=(POST,)))
                await one.until_all_is_answered()
            assert 0 in (one.counted["published"], other.counted["published"])
            for event_id in ids[150:]:
                await one.tell(a_like(id=event_id, channels=(POST,)))
            await one.until_all_is_answered()

        for channel in (personal_channel(ANN), POST):
            assert [each.event_id for each in await one.heard_in(channel)] == ids


class StumblingPublisher(Publisher):
    """Gets no answer to its first try."""

    has_stumbled = False

    async def publish(self, *arguments: Any, **options: Any) -> PubAck:
        if not self.has_stumbled:
            self.has_stumbled = True
            raise BusUnavailable("no answer")
        return await super().publish(*arguments, **options)


async def test_nothing_overtakes_an_event_that_could_not_be_published_at_once(
    notifying: Notifying,
) -> None:
    stumbling = Notifier(
        notifying.bus,
        StumblingPublisher(notifying.bus),
        notifying.history,
        limits=notifying.limits,
    )
    ids = [str(uuid.uuid4()) for _ in range(20)]
    for event_id in ids:
        await notifying.tell(a_like(id=event_id))

    async with running(stumbling.run):
        await notifying.until_all_is_answered()

    assert [each.event_id for each in await notifying.heard_in(personal_channel(ANN))] == ids


async def test_stopping_gives_back_what_is_in_hand_at_once(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    async with connected(server) as notifying:
        stuck_publisher = Publisher(notifying.bus, window=0)
        stuck = Notifier(notifying.bus, stuck_publisher, notifying.history, limits=notifying.limits)
        await notifying.tell(a_like())
        async with running(stuck.run):
            await eventually(lambda: stuck_publisher.unanswered == 1)

        async with running(notifying.notifier().run):
            await notifying.until_all_is_answered(seconds=5)  # far below the 30 s of an ack

    assert notifying.counted["published"] == 1


async def test_stopping_gives_back_at_once_what_there_was_no_room_for(
    nats_server: Callable[[], NatsServer],
) -> None:
    async with connected(nats_server(), StreamSettings(notify_ack_seconds=60)) as notifying:
        stuck_publisher = Publisher(notifying.bus, window=0)
        two_at_a_time = replace(notifying.limits, max_events=2)
        stuck = Notifier(notifying.bus, stuck_publisher, notifying.history, limits=two_at_a_time)
        for user in range(1, 7):
            await notifying.tell(a_like(recipients=(UserId(str(user)),)))
        async with running(stuck.run):
            await eventually(lambda: stuck_publisher.unanswered == 2)
            await notifying.answered_up_to()  # what was asked for is here as well

        async with running(notifying.notifier().run):
            await notifying.until_all_is_answered()

    assert notifying.counted["published"] == 6


async def test_an_event_that_waits_behind_another_is_said_to_be_worked_on(
    notifying: Notifying,
) -> None:
    said: set[tuple[int, bytes]] = set()  # of which event, and what

    def hear(subject: bytes, answer: bytes, *_rest: object) -> None:
        said.add((int(subject.split(b".")[5]), answer))

    await notifying.bus.subscribe("$JS.ACK.EVENTS.notify.>", hear)
    limits = replace(
        notifying.limits, publish_seconds=0.1, queue=WorkQueueLimits(progress_seconds=0.05)
    )
    stuck = Notifier(
        notifying.bus, Publisher(notifying.bus, window=0), notifying.history, limits=limits
    )
    for _ in range(2):
        await notifying.tell(a_like())

    async with running(stuck.run):
        await eventually(lambda: {(1, b"+WPI"), (2, b"+WPI")} <= said)


async def test_an_unrelated_message_of_the_channel_is_not_taken_for_the_event(
    nats_server: Callable[[], NatsServer],
) -> None:
    async with connected(nats_server()) as notifying:
        await notifying.publisher.publish(
            publication_subject(personal_channel(ANN)),
            Publication(data={"x": 1}).encode(),
            message_id="another",
        )
        async with running(notifying.notifier().run):
            await notifying.tell(a_like(time=datetime.now(UTC) - timedelta(days=1)))
            await notifying.until_all_is_answered()

        assert notifying.counted == {"published": 1}
