"""The writer: whatever happens on the way, the stream ends up with what is wanted."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import Enum
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.presence.limits import PresenceLimits
from gateway.presence.records import EntryRecord, read_record
from gateway.presence.writer import PresenceWriter
from shared.contracts.ids import ChannelName, ConnectionId, NodeId, UserId
from shared.jetstream.publisher import OnDone, PubAckResult, Publisher, Sending
from shared.jetstream.stream_reader import StreamReader
from shared.jetstream.streams import bootstrap
from shared.jetstream.subjects import PRES_PUB, token_of
from shared.nats.client import Bus, connect_bus
from shared.nats.errors import BusUnavailable
from tests.fixtures.waiting import eventually

ANN = UserId("1")
QUICK = PresenceLimits(
    grace_seconds=0.03,
    lease_seconds=10,
    renew_seconds=3,
    refresh_seconds=0.01,
    retry_seconds=0.005,
    max_retry_seconds=0.02,
    max_writes_in_flight=2,
)

Claims = dict[UserId, set[ConnectionId]]


class Fate(Enum):
    """What becomes of one write."""

    STORED = "stored"
    LOST = "lost"
    ANSWER_LOST = "stored, and only the answer is lost"
    SLOW = "stored, and answered late"


class Fateful(Publisher):
    """A publisher whose writes meet their fates in turn; then all are stored."""

    fates: itertools.chain[Fate]
    in_flight: set[str]
    writes = 0
    most_at_once = 0

    def send(self, subject: str, payload: bytes, *, on_done: OnDone, **told: Any) -> Sending:
        self.writes += 1
        fate = next(self.fates)
        if fate is Fate.LOST:
            lost = BusUnavailable("lost")
            never_sent = told | {"message_id": "a\nb"}
            return super().send(subject, payload, on_done=lambda _: on_done(lost), **never_sent)
        assert subject not in self.in_flight, "one write per entry at a time"
        self.in_flight.add(subject)
        self.most_at_once = max(self.most_at_once, len(self.in_flight))

        def end(outcome: PubAckResult) -> None:
            self.in_flight.remove(subject)
            on_done(BusUnavailable("no answer") if fate is Fate.ANSWER_LOST else outcome)

        def end_in_time(outcome: PubAckResult) -> None:
            if fate is Fate.SLOW:
                asyncio.get_running_loop().call_later(0.02, end, outcome)
            else:
                end(outcome)

        return super().send(subject, payload, on_done=end_in_time, **told)

    def forget(self, sending: Sending) -> None:
        self.in_flight.discard(sending.subject)
        super().forget(sending)


class Desk:
    """A running writer in a channel of its own, and what the stream has of it."""

    running: asyncio.Task[None]

    def __init__(self, bus: Bus, publisher: Fateful, limits: PresenceLimits) -> None:
        self._bus = bus
        self.publisher = publisher
        self.writer = PresenceWriter(publisher, limits)
        self.channel = ChannelName(f"test:{uuid.uuid4()}")
        self.wanted: Claims = {}

    def enter(self, user_id: UserId, tab: str) -> None:
        self.wanted.setdefault(user_id, set()).add(ConnectionId(tab))
        self.writer.enter(self.channel, user_id, f"User {user_id}", ConnectionId(tab))

    def leave(self, user_id: UserId, tab: str) -> None:
        self.wanted.get(user_id, set()).discard(ConnectionId(tab))
        if not self.wanted.get(user_id):
            self.wanted.pop(user_id, None)
        self.writer.leave(self.channel, user_id, ConnectionId(tab))

    async def written(self, node: NodeId) -> Claims:
        found = await StreamReader(self._bus, "PRES").batch(
            {
                "seq": 1,
                "next_by_subj": f"{PRES_PUB}{token_of(self.channel)}.*.{node}",
                "batch": 1000,
            }
        )
        claims: Claims = {}
        for message in found.messages:
            name = message.subject.removeprefix(PRES_PUB)
            record = read_record(name, message.sequence, message.payload, message.headers)
            assert isinstance(record, EntryRecord)
            if record.entry is not None:
                claims[record.key.membership[1]] = set(record.entry.connections)
        return claims

    async def until_idle(self, limits: PresenceLimits) -> None:
        """Until nothing is to be written, nor will be."""
        await eventually(
            lambda: self.writer.unwritten == 0 and self.writer.tracked == len(self.wanted)
        )
        await asyncio.sleep(limits.refresh_seconds * 2)
        await eventually(lambda: self.writer.unwritten == 0)


@asynccontextmanager
async def a_desk(
    url: str, limits: PresenceLimits = QUICK, fates: tuple[Fate, ...] = ()
) -> AsyncGenerator[Desk]:
    async with connect_bus(url, name="desk") as bus:
        await bootstrap(bus)
        publisher = Fateful(bus)
        publisher.fates = itertools.chain(fates, itertools.repeat(Fate.STORED))
        publisher.in_flight = set()
        desk = Desk(bus, publisher, limits)
        async with asyncio.TaskGroup() as group:
            desk.running = group.create_task(desk.writer.run())
            yield desk
            desk.running.cancel()
        publisher.stop()


users = st.sampled_from([UserId("1"), UserId("2"), UserId("3")])
tabs = st.sampled_from(["a", "b"])
steps = st.one_of(
    st.tuples(st.just("enter"), users, tabs),
    st.tuples(st.just("leave"), users, tabs),
    st.tuples(st.just("pass"), users, tabs),
    st.tuples(st.just("rename"), users, tabs),
)


@settings(max_examples=40)
@given(st.lists(steps, max_size=25), st.lists(st.sampled_from(Fate), max_size=25).map(tuple))
def test_the_stream_ends_up_with_what_is_wanted(
    nats_url: str, walk: list[tuple[str, UserId, str]], fates: tuple[Fate, ...]
) -> None:
    async def run() -> None:
        async with a_desk(nats_url, fates=fates) as desk:
            node = NodeId(uuid.uuid4().hex)
            desk.writer.resume(node)
            for what, user_id, tab in walk:
                if what == "enter":
                    desk.enter(user_id, tab)
                elif what == "leave":
                    desk.leave(user_id, tab)
                elif what == "rename":
                    node = NodeId(uuid.uuid4().hex)
                    desk.writer.resume(node)
                else:
                    await asyncio.sleep(0.02)
            await desk.until_idle(QUICK)
            assert await desk.written(node) == desk.wanted

    asyncio.run(run())


async def test_many_tabs_at_once_are_few_writes(nats_url: str) -> None:
    async with a_desk(nats_url, replace(QUICK, refresh_seconds=1)) as desk:
        node = NodeId(uuid.uuid4().hex)
        desk.writer.resume(node)
        for number in range(20):
            desk.enter(ANN, f"tab {number}")
            await asyncio.sleep(0.005)  # long enough for a write each
        await eventually(lambda: desk.publisher.writes == 2)
        await desk.until_idle(QUICK)

        assert await desk.written(node) == desk.wanted
        assert desk.publisher.writes == 2


async def test_writes_in_flight_are_bounded(nats_url: str) -> None:
    async with a_desk(nats_url, fates=(Fate.SLOW,) * 10) as desk:
        desk.writer.resume(NodeId(uuid.uuid4().hex))
        for number in range(1, 11):
            desk.enter(UserId(str(number)), "tab")
        await desk.until_idle(QUICK)

    assert desk.publisher.most_at_once == QUICK.max_writes_in_flight


async def test_who_arrives_while_writing_pauses_is_written_after_it(nats_url: str) -> None:
    slow = replace(QUICK, retry_seconds=0.2, max_retry_seconds=0.2)
    async with a_desk(nats_url, slow, fates=(Fate.LOST,)) as desk:
        node = NodeId(uuid.uuid4().hex)
        desk.writer.resume(node)
        desk.enter(ANN, "tab")
        await eventually(lambda: desk.publisher.writes == 1)
        desk.leave(ANN, "tab")
        desk.enter(UserId("2"), "tab")
        assert desk.publisher.writes == 1
        await desk.until_idle(slow)

        assert await desk.written(node) == desk.wanted


async def test_who_arrives_when_the_writer_has_ended_hurts_nothing(nats_url: str) -> None:
    async with a_desk(nats_url) as desk:
        desk.writer.resume(NodeId(uuid.uuid4().hex))
        desk.enter(ANN, "tab")
        await desk.until_idle(QUICK)
    desk.enter(UserId("2"), "tab")

    assert desk.writer.unwritten == 1


async def test_what_was_not_answered_when_a_writer_ended_is_written_when_it_runs_again(
    nats_url: str,
) -> None:
    async with a_desk(nats_url) as desk, asyncio.TaskGroup() as group:
        desk.writer.resume(NodeId(uuid.uuid4().hex))
        await asyncio.sleep(0)  # for it to run
        desk.enter(ANN, "tab")
        assert desk.publisher.unanswered == 1
        desk.running.cancel()
        await asyncio.sleep(0)  # before any answer can have come
        assert desk.running.done()
        assert (desk.publisher.unanswered, desk.writer.unwritten) == (0, 1)

        desk.running = group.create_task(desk.writer.run())
        await desk.until_idle(QUICK)
        assert desk.writer.unwritten == 0
        desk.running.cancel()


async def test_nothing_is_written_without_a_lease(nats_url: str) -> None:
    async with a_desk(nats_url) as desk:
        desk.enter(ANN, "tab")
        await asyncio.sleep(0.05)
        assert desk.publisher.writes == 0

        desk.writer.resume(NodeId(uuid.uuid4().hex))
        await eventually(lambda: desk.publisher.writes == 1)


async def test_an_entry_that_is_gone_costs_nothing_more(nats_url: str) -> None:
    async with a_desk(nats_url) as desk:
        desk.writer.resume(NodeId(uuid.uuid4().hex))
        desk.enter(ANN, "tab")
        await desk.until_idle(QUICK)
        desk.leave(ANN, "tab")
        await eventually(lambda: desk.writer.tracked == 0)


async def test_an_entry_without_end_is_listed_up_to_a_limit(nats_url: str) -> None:
    async with a_desk(nats_url, replace(QUICK, max_listed_connections=3)) as desk:
        node = NodeId(uuid.uuid4().hex)
        for number in range(10):
            desk.enter(ANN, f"tab {number}")
        desk.writer.resume(node)
        await desk.until_idle(QUICK)

        assert len((await desk.written(node))[ANN]) == 3


class Refusing(Fateful):
    """The bus says that this can never be stored."""

    def send(self, subject: str, payload: bytes, *, on_done: OnDone, **told: Any) -> Sending:
        self.writes += 1
        return super(Fateful, self).send(
            subject, payload, on_done=on_done, **(told | {"message_id": "a\nb"})
        )


async def test_what_can_never_be_stored_is_not_tried_for_ever(bus: Bus) -> None:
    publisher = Refusing(bus)
    writer = PresenceWriter(publisher, QUICK)
    writer.resume(NodeId("n"))
    channel = ChannelName("test:refused")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(writer.run())
        writer.enter(channel, ANN, "Ann", ConnectionId("tab"))
        await eventually(lambda: publisher.writes == 1)
        writer.leave(channel, ANN, ConnectionId("tab"))
        await eventually(lambda: writer.tracked == 0)
        running.cancel()

    assert publisher.writes == 2
