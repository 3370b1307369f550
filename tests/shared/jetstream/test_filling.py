"""Filling against replicas that lag: on a bus whose Direct Get answers as it is told."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, BusUnavailable, connect_bus
from shared.jetstream.filling import Filler, RetentionPassed
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.sequencer import Gap, Sequencer
from tests.fixtures.nats import StartServer

LIMITS = FollowerLimits(stale_read_seconds=0.001, max_stale_reads=3, answer_seconds=1)


def no_doubt() -> None: ...


@pytest.fixture
async def bus(nats_server: StartServer) -> AsyncGenerator[Bus]:
    """On a server without JetStream, in whose place the tests answer."""
    async with connect_bus(nats_server(jetstream=False).url, name="test") as connected:
        await connected.until_connected()
        yield connected


class LaggingStream:
    """A stream whose leader has messages that the replica which answers has only after a while."""

    def __init__(self, bus: Bus) -> None:
        self.name = "LAGGING"
        self.held: list[int] = []
        self.first = 1
        self.last = 0
        self.stale_answers = 0
        self.reads = 0
        self._bus = bus

    async def open(self) -> "LaggingStream":
        await self._bus.subscribe(f"$JS.API.DIRECT.GET.{self.name}", self._direct_get)
        await self._bus.subscribe(f"$JS.API.STREAM.INFO.{self.name}", self._info)
        await self._bus.subscribe(f"$JS.API.STREAM.MSG.GET.{self.name}", self._leader_get)
        return self

    def _direct_get(self, _subject: bytes, payload: bytes, _headers: Any, reply: bytes) -> None:
        self.reads += 1
        found = [sequence for sequence in self.held if sequence >= json.loads(payload)["seq"]]
        if self.reads <= self.stale_answers or not found:
            self._bus.send(reply.decode(), b"", headers=b"NATS/1.0 404 Message Not Found\r\n\r\n")
            return
        before = 0
        for sequence in found:
            headers = (
                f"NATS/1.0\r\nNats-Subject: {self.name}.pub.a\r\nNats-Sequence: {sequence}\r\n"
                f"Nats-Last-Sequence: {before}\r\n\r\n"
            )
            self._bus.send(reply.decode(), b"", headers=headers.encode())
            before = sequence
        end = f"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: {before}\r\n\r\n"
        self._bus.send(reply.decode(), b"", headers=end.encode())

    def _info(self, _subject: bytes, _payload: bytes, _headers: Any, reply: bytes) -> None:
        state = {"first_seq": self.first, "last_seq": self.last, "last_ts": ""}
        answer = {"state": state, "config": {"metadata": {"epoch": "e"}}}
        self._bus.send(reply.decode(), json.dumps(answer).encode())

    def _leader_get(self, _subject: bytes, payload: bytes, _headers: Any, reply: bytes) -> None:
        after = json.loads(payload)["seq"]
        if any(sequence >= after for sequence in self.held):
            self._bus.send(reply.decode(), b'{"message":{"seq":1,"subject":"s","time":""}}')
        else:
            self._bus.send(reply.decode(), b'{"error":{"code":404,"err_code":10037}}')


class Taken:
    """What a filler handed over."""

    def __init__(self, bus: Bus, stream: LaggingStream) -> None:
        self.sequences: list[int] = []
        self.gaps: list[Gap] = []
        self.sequencer: Sequencer[StoredMessage] = Sequencer(max_held_bytes=1000)
        self.filler = Filler(
            StreamReader(bus, stream.name, answer_seconds=LIMITS.answer_seconds),
            stream.name,
            self.sequencer,
            prefix=f"{stream.name}.pub.",
            hand_over=self._take,
            on_filled=lambda _count: None,
            limits=LIMITS,
        )

    async def fill(self, target: int, *, check: Callable[[], None] = no_doubt) -> None:
        await self.filler.fill(target, check=check)

    def hold(self, sequence: int) -> None:
        self.sequencer.hold(sequence, StoredMessage(sequence, "a", b"", b""), 1)

    def _take(self, due: StoredMessage | Gap) -> None:
        if isinstance(due, Gap):
            self.gaps.append(due)
        else:
            self.sequences.append(due.sequence)


async def test_a_replica_that_lags_is_asked_until_it_has_the_target(bus: Bus) -> None:
    stream = await LaggingStream(bus).open()
    stream.held, stream.last, stream.stale_answers = [1, 2, 3], 3, 8
    taken = Taken(bus, stream)

    await taken.fill(3)

    assert taken.sequences == [1, 2, 3]
    assert taken.gaps == []
    assert stream.reads > 8


async def test_without_a_target_an_empty_answer_is_enough(bus: Bus) -> None:
    stream = await LaggingStream(bus).open()
    taken = Taken(bus, stream)

    await taken.fill(0)

    assert stream.reads == 1


async def test_what_the_leader_no_longer_has_either_is_stepped_over(bus: Bus) -> None:
    stream = await LaggingStream(bus).open()
    stream.last = 4
    taken = Taken(bus, stream)
    taken.hold(2)

    await taken.fill(4)

    assert taken.sequences == [2]
    assert taken.gaps == [Gap(1, 1), Gap(3, 4)]


async def test_what_was_heard_of_and_lost_with_the_leader_is_forgotten(bus: Bus) -> None:
    stream = await LaggingStream(bus).open()
    stream.held, stream.last = [1], 1
    taken = Taken(bus, stream)
    taken.hold(3)

    with pytest.raises(BusUnavailable):
        await taken.fill(3)

    assert taken.sequences == [1]
    assert taken.sequencer.highest == 1
    await taken.fill(taken.sequencer.highest)


async def test_a_stream_that_begins_beyond_the_position_is_no_mere_gap(bus: Bus) -> None:
    stream = await LaggingStream(bus).open()
    stream.first, stream.held, stream.last = 5, [5, 6], 6
    taken = Taken(bus, stream)

    with pytest.raises(RetentionPassed) as passed:
        await taken.fill(6)

    assert passed.value.state.first == 5
    assert taken.sequences == []


async def test_what_is_asked_for_before_a_doubt_is_not_delivered_after_it(bus: Bus) -> None:
    stream = await LaggingStream(bus).open()
    stream.held, stream.last = [1, 2], 2
    taken = Taken(bus, stream)

    def mark_stale() -> None:
        raise BusUnavailable("stale again")

    with pytest.raises(BusUnavailable):
        await taken.fill(2, check=mark_stale)

    assert taken.sequences == []
