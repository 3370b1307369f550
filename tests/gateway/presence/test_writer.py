"""The writer: whatever becomes of its writes, in the end the stream has what is wanted."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.presence.limits import PresenceLimits
from gateway.presence.records import ClientInfo, EntryRecord, NodeId, read_record
from gateway.presence.writer import PresenceWriter
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, ConnectionId, UserId
from hubbub_client.contracts.subjects import PRES_LIVE, PRES_PUB, token_of
from hubbub_client.jetstream.publisher import OnDone, PubAckResult, Publisher, Sending
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.nats.headers import header
from shared.jetstream.streams import bootstrap
from tests.fixtures.waiting import eventually

ANN = UserId("1")
QUICK = PresenceLimits(
    grace_seconds=0.03,
    lease_seconds=10,
    renew_seconds=3,
    refresh_seconds=0.01,
    max_refresh_seconds=0.01,
    retry_seconds=0.005,
    max_retry_seconds=0.02,
    max_writes_in_flight=2,
)

Claims = dict[UserId, dict[ConnectionId, ClientInfo | None]]


class Outcome(Enum):
    """What becomes of one write."""

    STORED = "stored"
    LOST = "lost"
    ANSWER_LOST = "stored, and only the answer is lost"
    SLOW = "stored, and answered late"


class ScriptedPublisher(Publisher):
    """A publisher with given outcomes of its first writes; all later ones are stored."""

    outcomes: itertools.chain[Outcome]
    in_flight: set[str]
    writes = 0
    most_at_once = 0

    def send(self, subject: str, payload: bytes, *, on_done: OnDone, **options: Any) -> Sending:
        self.writes += 1
        outcome = next(self.outcomes)
        if outcome is Outcome.LOST:
            lost = BusUnavailable("lost")
            never_sent = options | {"message_id": "a\nb"}
            return super().send(subject, payload, on_done=lambda _: on_done(lost), **never_sent)
        assert subject not in self.in_flight, "one write per entry at a time"
        self.in_flight.add(subject)
        self.most_at_once = max(self.most_at_once, len(self.in_flight))

        def end(result: PubAckResult) -> None:
            self.in_flight.remove(subject)
            on_done(BusUnavailable("no answer") if outcome is Outcome.ANSWER_LOST else result)

        def end_in_time(result: PubAckResult) -> None:
            if outcome is Outcome.SLOW:
                asyncio.get_running_loop().call_later(0.02, end, result)
            else:
                end(result)

        return super().send(subject, payload, on_done=end_in_time, **options)

    def forget(self, sending: Sending) -> None:
        self.in_flight.discard(sending.subject)
        super().forget(sending)


class RunningWriter:
    """A running writer with its own channel, and what the stream has of it."""

    task: asyncio.Task[None]
    node = NodeId("")
    loses_copies = False

    def __init__(self, bus: Bus, publisher: ScriptedPublisher, limits: PresenceLimits) -> None:
        self._bus = bus
        self.publisher = publisher
        self.writer = PresenceWriter(publisher, limits)
        self.channel = ChannelName(f"test:{uuid.uuid4()}")
        self.wanted: Claims = {}
        self.stored: list[EntryRecord] = []

    def observe(self, subject: bytes, payload: bytes, headers: bytes | None, _reply: bytes) -> None:
        """As the follower does with each live copy."""
        if self.loses_copies:
            return
        name = subject.decode().removeprefix(PRES_LIVE)
        assert headers is not None
        sequence = int(header(headers, b"Nats-Sequence") or 0)
        record = read_record(name, sequence, payload, headers)
        known = self.writer.recall(name, sequence, payload, headers)
        assert known in (None, record)
        assert isinstance(record, EntryRecord)
        self.stored.append(record)
        if record.key.node == self.node:
            self.writer.observe(record)

    def resume(self) -> None:
        """Under a new name."""
        self.node = NodeId(uuid.uuid4().hex)
        self.writer.resume(self.node)

    def enter(self, user_id: UserId, tab: str, info: ClientInfo | None = None) -> None:
        self.wanted.setdefault(user_id, {})[ConnectionId(tab)] = info
        self.writer.enter(self.channel, user_id, f"User {user_id}", ConnectionId(tab), info)

    def leave(self, user_id: UserId, tab: str) -> None:
        self.wanted.get(user_id, {}).pop(ConnectionId(tab), None)
        if not self.wanted.get(user_id):
            self.wanted.pop(user_id, None)
        self.writer.leave(self.channel, user_id, ConnectionId(tab))

    async def written(self) -> Claims:
        found = await StreamReader(self._bus, "PRES").batch(
            {
                "seq": 1,
                "next_by_subj": f"{PRES_PUB}{token_of(self.channel)}.*.{self.node}",
                "batch": 1000,
            }
        )
        claims: Claims = {}
        for message in found.messages:
            name = message.subject.removeprefix(PRES_PUB)
            record = read_record(name, message.sequence, message.payload, message.headers)
            assert isinstance(record, EntryRecord)
            if record.entry is not None:
                claims[record.key.membership[1]] = dict(record.entry.clients())
        return claims

    async def listed(self) -> Claims:
        """What is written, but for users in the grace."""
        return {user_id: tabs for user_id, tabs in (await self.written()).items() if tabs}

    async def until_listed(self) -> None:
        """Until the stream lists the wanted connections, and no others."""
        async with asyncio.timeout(30):
            while await self.listed() != self.wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def until_written(self) -> None:
        """Until the stream has what is wanted, and nothing else is to be removed."""
        async with asyncio.timeout(30):
            while not await self._is_written():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _is_written(self) -> bool:
        if self.writer.unwritten or self.writer.tracked != len(self.wanted):
            return False
        return await self.written() == self.wanted


@asynccontextmanager
async def a_writer(
    url: str, limits: PresenceLimits = QUICK, outcomes: tuple[Outcome, ...] = ()
) -> AsyncGenerator[RunningWriter]:
    async with connect_bus(url, name="writer") as bus:
        await bootstrap(bus)
        publisher = ScriptedPublisher(bus)
        publisher.outcomes = itertools.chain(outcomes, itertools.repeat(Outcome.STORED))
        publisher.in_flight = set()
        running = RunningWriter(bus, publisher, limits)
        await bus.subscribe(f"{PRES_LIVE}{token_of(running.channel)}.*.*", running.observe)
        async with asyncio.TaskGroup() as group:
            running.task = group.create_task(running.writer.run())
            yield running
            running.task.cancel()
        publisher.stop()


users = st.sampled_from([UserId("1"), UserId("2"), ANONYMOUS])
tabs = st.sampled_from(["a", "b"])
infos = st.sampled_from([None, ClientInfo(b"1"), ClientInfo(None, b"2")])
steps = st.tuples(users, tabs, infos, st.sampled_from(["go on", "wait", "rename"]))
Walk = list[tuple[UserId, str, ClientInfo | None, str]]
walks = st.lists(steps, max_size=25)
outcomes_in_turn = st.lists(st.sampled_from(Outcome), max_size=25).map(tuple)


async def take_steps(running: RunningWriter, walk: Walk) -> None:
    """Each tab enters and leaves in turn."""
    running.resume()
    for user_id, tab, info, then in walk:
        if tab in running.wanted.get(user_id, {}):
            running.leave(user_id, tab)
        else:
            running.enter(user_id, tab, info)
        if then == "wait":
            await asyncio.sleep(0.02)
        elif then == "rename":
            running.resume()


@settings(max_examples=40)
@given(walks, outcomes_in_turn)
def test_the_stream_ends_up_with_what_is_wanted(
    nats_url: str, walk: Walk, outcomes: tuple[Outcome, ...]
) -> None:
    async def run() -> None:
        async with a_writer(nats_url, outcomes=outcomes) as running:
            await take_steps(running, walk)
            await running.until_written()
            await asyncio.sleep(QUICK.refresh_seconds * 3)  # in which nothing else is written
            assert await running.written() == running.wanted

    asyncio.run(run())


@settings(max_examples=20)
@given(walks, outcomes_in_turn)
def test_connections_that_left_are_not_listed_while_their_users_are_in_the_grace(
    nats_url: str, walk: Walk, outcomes: tuple[Outcome, ...]
) -> None:
    async def run() -> None:
        limits = replace(QUICK, grace_seconds=1000)
        async with a_writer(nats_url, limits, outcomes) as running:
            await take_steps(running, walk)
            await running.until_listed()
            await eventually(lambda: running.writer.unwritten == 0)
            assert set(await running.written()) >= set(running.wanted)

    asyncio.run(run())


async def test_a_first_change_is_written_at_once_and_those_that_follow_soon_together(
    nats_url: str,
) -> None:
    patient = replace(QUICK, refresh_seconds=0.5, max_refresh_seconds=0.5, grace_seconds=1000)
    async with a_writer(nats_url, patient) as running:
        running.resume()
        await asyncio.sleep(0)  # so that it runs
        running.enter(ANN, "tab 1")
        assert running.publisher.writes == 1
        await eventually(lambda: running.writer.unwritten == 0)
        await asyncio.sleep(patient.refresh_seconds)

        running.leave(ANN, "tab 1")
        assert running.publisher.writes == 2
        begun = time.monotonic()
        for number in range(2, 10):
            running.enter(ANN, f"tab {number}")
            await asyncio.sleep(0.005)  # long enough for a write each
        await running.until_written()
        passed = time.monotonic() - begun

        assert running.publisher.writes <= 2 + passed / patient.refresh_seconds


async def test_a_connection_that_left_before_its_write_was_answered_is_not_listed_any_more(
    nats_url: str,
) -> None:
    patient = replace(QUICK, grace_seconds=1000)
    async with a_writer(nats_url, patient, (Outcome.ANSWER_LOST,)) as running:
        running.resume()
        await asyncio.sleep(0)  # so that it runs
        running.enter(ANN, "tab")
        running.leave(ANN, "tab")
        assert running.publisher.writes == 1
        await eventually(lambda: len(running.stored) == 2)

        assert await running.written() == {ANN: {}}


async def test_a_user_who_left_before_a_write_was_stored_is_not_seen_in_the_grace(
    nats_url: str,
) -> None:
    async with a_writer(nats_url, outcomes=(Outcome.LOST,)) as running:
        running.resume()
        await asyncio.sleep(0)  # so that it runs
        running.enter(ANN, "tab")
        running.leave(ANN, "tab")
        assert running.publisher.writes == 1
        await eventually(lambda: len(running.stored) == 1)

        assert running.stored[0].entry is None


async def test_many_tabs_at_once_are_few_writes(nats_url: str) -> None:
    patient = replace(QUICK, refresh_seconds=1, max_refresh_seconds=1)
    async with a_writer(nats_url, patient) as running:
        running.resume()
        begun = time.monotonic()
        for number in range(20):
            running.enter(ANN, f"tab {number}")
            await asyncio.sleep(0.005)  # long enough for a write each
        await running.until_written()
        passed = time.monotonic() - begun

        assert running.publisher.writes <= 1 + passed / patient.refresh_seconds


def test_entries_with_more_connections_are_written_less_often() -> None:
    limits = replace(QUICK, refresh_seconds=0.2, max_refresh_seconds=1, max_listed_connections=1000)

    seconds = [limits.refresh_seconds_of(connections) for connections in (0, 500, 1000, 10**6)]

    assert seconds == pytest.approx([0.2, 0.6, 1, 1])


async def test_writes_in_flight_are_bounded(nats_url: str) -> None:
    async with a_writer(nats_url, outcomes=(Outcome.SLOW,) * 10) as running:
        running.resume()
        for number in range(1, 11):
            running.enter(UserId(str(number)), "tab")
        await running.until_written()

    assert running.publisher.most_at_once == QUICK.max_writes_in_flight


async def test_a_user_who_enters_during_a_pause_is_written_after_it(nats_url: str) -> None:
    slow = replace(QUICK, retry_seconds=0.5, max_retry_seconds=0.5)
    async with a_writer(nats_url, slow, outcomes=(Outcome.LOST,)) as running:
        running.resume()
        await asyncio.sleep(0)  # so that it runs
        running.enter(ANN, "tab")
        assert running.publisher.writes == 1
        await asyncio.sleep(0)  # so that it hears that this is lost
        running.leave(ANN, "tab")
        running.enter(UserId("2"), "tab")
        assert running.publisher.writes == 1
        await running.until_written()


async def test_a_user_may_enter_after_the_writer_has_ended(nats_url: str) -> None:
    async with a_writer(nats_url) as running:
        running.resume()
        running.enter(ANN, "tab")
        await running.until_written()
    running.enter(UserId("2"), "tab")

    assert running.writer.unwritten == 1


async def test_writes_without_an_answer_are_made_again_when_the_writer_runs_again(
    nats_url: str,
) -> None:
    async with a_writer(nats_url) as running, asyncio.TaskGroup() as group:
        running.resume()
        await asyncio.sleep(0)  # so that it runs
        running.enter(ANN, "tab")
        assert running.publisher.unanswered == 1
        running.task.cancel()
        await asyncio.sleep(0)  # too short for an answer
        assert running.task.done()
        assert (running.publisher.unanswered, running.writer.unwritten) == (0, 1)

        running.task = group.create_task(running.writer.run())
        await running.until_written()
        running.task.cancel()


async def test_a_write_whose_copy_is_lost_is_asked_for_and_not_made_anew(nats_url: str) -> None:
    async with a_writer(nats_url) as running:
        running.loses_copies = True
        running.resume()
        await asyncio.sleep(0)  # so that it runs
        running.enter(ANN, "tab")
        await running.until_written()

        assert running.publisher.writes == 1


async def test_nothing_is_written_without_a_lease(nats_url: str) -> None:
    async with a_writer(nats_url) as running:
        running.enter(ANN, "tab")
        await asyncio.sleep(0.05)
        assert running.publisher.writes == 0

        running.resume()
        await eventually(lambda: running.publisher.writes == 1)


async def test_a_removed_entry_is_not_tracked_any_more(nats_url: str) -> None:
    async with a_writer(nats_url) as running:
        running.resume()
        running.enter(ANN, "tab")
        await running.until_written()
        running.leave(ANN, "tab")
        await eventually(lambda: running.writer.tracked == 0)


async def test_an_entry_lists_connections_up_to_a_limit(nats_url: str) -> None:
    async with a_writer(nats_url, replace(QUICK, max_listed_connections=3)) as running:
        for number in range(10):
            running.enter(ANN, f"tab {number}")
        running.resume()
        await eventually(lambda: running.writer.unwritten == 0)

        assert [*(await running.written())[ANN]] == ["tab 0", "tab 1", "tab 2"]


class Refusing(ScriptedPublisher):
    """A publisher whose messages can never be stored."""

    def send(self, subject: str, payload: bytes, *, on_done: OnDone, **options: Any) -> Sending:
        self.writes += 1
        return super(ScriptedPublisher, self).send(
            subject, payload, on_done=on_done, **(options | {"message_id": "a\nb"})
        )


async def test_an_entry_that_can_never_be_stored_is_not_tried_for_ever(bus: Bus) -> None:
    publisher = Refusing(bus)
    writer = PresenceWriter(publisher, replace(QUICK, grace_seconds=0))
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
