"""The follower on a real server, with live copies that get lost, repeated or never sent."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import Bus
from hubbub_client.nats.headers import encode_headers
from shared.jetstream.follower import Follower
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.position import EPOCH_CHANGED, RETENTION
from shared.runtime.supervision import Loop, SupervisionLimits, Supervisor
from tests.fixtures.waiting import eventually
from tests.shared.jetstream.builders import (
    a_stream,
    announce_leader,
    following,
    js_api,
    publish_numbers,
)

PATIENT = FollowerLimits(idle_seconds=60, verify_seconds=60)


class Reader:
    """What a follower gave, as a list of sentences."""

    def __init__(self) -> None:
        self.messages: list[StoredMessage] = []
        self.resets: list[str] = []
        self.skipped: list[tuple[int, int]] = []
        self.filled = 0

    def follower(
        self,
        bus: Bus,
        stream: str,
        *,
        kind: type[Follower] = Follower,
        from_start: bool = False,
        after: Follower | None = None,
        limits: FollowerLimits | None = None,
    ) -> Follower:
        return kind(
            bus,
            stream,
            f"{stream}.pub.",
            f"{stream}.live.",
            deliver=self.messages.append,
            on_reset=self.resets.append,
            on_skipped=lambda first, last: self.skipped.append((first, last)),
            on_filled=self._add_filled,
            from_start=from_start,
            after=after,
            limits=limits,
        )

    @property
    def sequences(self) -> list[int]:
        return [message.sequence for message in self.messages]

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    def _add_filled(self, count: int) -> None:
        self.filled += count


class Lossy(Follower):
    """Loses live copies, or hears them twice."""

    heard = 0

    def _take_live(
        self, subject: bytes, payload: bytes, headers: bytes | None, reply: bytes
    ) -> None:
        self.heard += 1
        for _ in range(self.copies_of(self.heard)):
            super()._take_live(subject, payload, headers, reply)

    def copies_of(self, heard: int) -> int:
        return 0


class HearsEveryThird(Lossy):
    def copies_of(self, heard: int) -> int:
        return 1 if heard % 3 == 0 else 0


class HearsTwice(Lossy):
    def copies_of(self, heard: int) -> int:
        return 2


class MissesTheThird(Lossy):
    def copies_of(self, heard: int) -> int:
        return 0 if heard == 3 else 1


async def test_what_is_published_is_delivered_once_in_order(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    follower = reader.follower(bus, stream, limits=PATIENT)

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(100))
        await eventually(lambda: follower.position == 100)

    assert reader.sequences == list(range(1, 101))
    assert reader.payloads == [str(n).encode() for n in range(100)]
    assert {message.subject for message in reader.messages} == {"k"}
    assert reader.filled == 0


async def test_it_begins_at_the_end_of_the_stream(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()

    async with start_publisher(bus) as publisher:
        await publish_numbers(publisher, stream, range(3))
        follower = reader.follower(bus, stream)
        assert (follower.position, follower.epoch, follower.caught_up) == (0, "", False)
        async with following(follower):
            await follower.until_caught_up()
            assert (follower.position, follower.lag) == (3, 0)
            assert follower.epoch
            await publish_numbers(publisher, stream, range(3, 5))
            await eventually(lambda: follower.position == 5)

    assert reader.sequences == [4, 5]


async def test_from_the_start_all_that_is_held_comes_before_it_is_caught_up(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    limits = replace(PATIENT, batch_messages=50)

    async with start_publisher(bus) as publisher:
        await publish_numbers(publisher, stream, range(230))
        await js_api(bus, f"STREAM.PURGE.{stream}", {"seq": 11})
        follower = reader.follower(bus, stream, from_start=True, limits=limits)
        async with following(follower):
            await follower.until_caught_up()
            assert reader.sequences == list(range(11, 231))
            await publish_numbers(publisher, stream, range(230, 232))
            await eventually(lambda: follower.position == 232)

    assert reader.sequences == list(range(11, 233))
    assert (reader.resets, reader.skipped) == ([], [])


async def test_messages_of_a_stream_that_sends_no_live_copies_come_by_the_idle_check(
    bus: Bus,
) -> None:
    """As when a leader dies after storing: no copy is ever sent, and nothing else tells of it."""
    name, reader = f"t{uuid4().hex[:12]}", Reader()
    await js_api(
        bus,
        f"STREAM.CREATE.{name}",
        {
            "name": name,
            "subjects": [f"{name}.pub.>"],
            "allow_direct": True,
            "metadata": {"epoch": "e"},
        },
    )
    follower = reader.follower(bus, name)

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await publish_numbers(publisher, name, range(1))
        await eventually(lambda: reader.sequences == [1])

    assert reader.filled == 1


async def test_holes_are_filled_at_once_and_in_their_place(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    follower = reader.follower(bus, stream, kind=HearsEveryThird, limits=PATIENT)

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(99))
        await eventually(lambda: follower.position == 99)

    assert reader.sequences == list(range(1, 100))
    assert reader.filled >= 66


async def test_repeated_live_copies_are_delivered_once(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    follower = reader.follower(bus, stream, kind=HearsTwice)

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(50))
        await eventually(lambda: follower.position == 50)
        assert follower.caught_up

    assert reader.sequences == list(range(1, 51))
    assert reader.resets == []


async def test_a_new_leader_makes_it_ask(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    follower = reader.follower(bus, stream, kind=Lossy, limits=PATIENT)

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(3))
        announce_leader(bus, stream)
        await eventually(lambda: reader.sequences == [1, 2, 3])


async def test_a_live_message_that_no_stream_sent_is_ignored(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    follower = reader.follower(bus, stream, limits=PATIENT)

    with capture_logs() as logs:
        async with start_publisher(bus) as publisher, following(follower):
            await follower.until_caught_up()
            bus.send(f"{stream}.live.k", b"no headers")
            bus.send(f"{stream}.live.k", b"odd", headers=b"NATS/1.0\r\nNats-Sequence: x\r\n\r\n")
            await publish_numbers(publisher, stream, range(2))
            await eventually(lambda: follower.position == 2)

    assert reader.payloads == [b"0", b"1"]
    assert [line["event"] for line in logs if line["log_level"] != "info"] == [
        "live_message_without_sequence"
    ] * 2


@pytest.mark.parametrize("kind", [Follower, HearsEveryThird])
async def test_a_message_that_the_reader_fails_on_counts_as_read(
    bus: Bus, kind: type[Follower]
) -> None:
    stream, delivered = await a_stream(bus), list[bytes]()

    def deliver(message: StoredMessage) -> None:
        if message.payload == b"1":
            raise ValueError("cannot read that")
        delivered.append(message.payload)

    follower = kind(
        bus, stream, f"{stream}.pub.", f"{stream}.live.", deliver=deliver, limits=PATIENT
    )
    with capture_logs() as logs:
        async with start_publisher(bus) as publisher, following(follower):
            await follower.until_caught_up()
            await publish_numbers(publisher, stream, range(6))
            await eventually(lambda: follower.position == 6)

    assert delivered == [b"0", b"2", b"3", b"4", b"5"]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "follower_callback_failed"
    ]


class Breaks(Follower):
    """Its loop raises once, at the first look after it is told to."""

    breaks = False

    async def _look(self) -> None:
        if self.breaks:
            self.breaks = False
            raise RuntimeError("a loop that breaks")
        await super()._look()


async def test_a_follower_that_breaks_goes_stale_and_when_started_again_goes_on_where_it_was(
    bus: Bus,
) -> None:
    stream, reader = await a_stream(bus), Reader()
    follower = reader.follower(bus, stream, kind=Breaks)
    assert isinstance(follower, Breaks)
    supervisor = Supervisor(limits=SupervisionLimits(first_pause_seconds=1))
    async with (
        start_publisher(bus) as publisher,
        supervisor.running(Loop("feed", follower.run)),
    ):
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(2))
        follower.breaks = True
        await eventually(lambda: not follower.caught_up)
        await publish_numbers(publisher, stream, range(2, 4))  # nobody hears of these now
        await eventually(lambda: follower.position == 4)

    assert reader.payloads == [b"0", b"1", b"2", b"3"]
    assert reader.resets == []


async def test_what_was_removed_before_it_was_read_is_reported_as_skipped(bus: Bus) -> None:
    stream, reader = await a_stream(bus, max_msgs_per_subject=1), Reader()
    async with start_publisher(bus) as publisher:
        for key in ("a", "b"):
            await publish_numbers(publisher, stream, range(1), key=key)
        follower = reader.follower(bus, stream, kind=Lossy, limits=PATIENT)
        async with following(follower):
            await follower.until_caught_up()
            for number in (1, 2, 3):
                await publish_numbers(publisher, stream, range(number, number + 1), key="b")
            announce_leader(bus, stream)
            await eventually(lambda: follower.position == 5)

    assert reader.sequences == [5]
    assert reader.skipped == [(3, 4)]
    assert reader.resets == []


async def test_what_came_live_and_was_then_replaced_is_not_skipped(bus: Bus) -> None:
    stream, reader = await a_stream(bus, max_msgs_per_subject=1), Reader()
    follower = reader.follower(bus, stream, kind=MissesTheThird, limits=PATIENT)

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(1), key="a")
        await publish_numbers(publisher, stream, range(5), key="b")
        await eventually(lambda: follower.position == 6)

    assert sorted(reader.sequences + [n for n, _ in reader.skipped]) == list(range(1, 7))
    assert reader.skipped in ([], [(3, 3)])
    assert set(reader.sequences) >= {1, 2, 4, 5, 6}


async def test_what_was_removed_at_the_end_of_the_stream_is_stepped_over(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    limits = replace(PATIENT, max_stale_reads=3, stale_read_seconds=0.001)

    async with start_publisher(bus) as publisher:
        await publish_numbers(publisher, stream, range(2))
        follower = reader.follower(bus, stream, kind=Lossy, limits=limits)
        async with following(follower):
            await follower.until_caught_up()
            await publish_numbers(publisher, stream, range(2, 4), key="gone")
            await js_api(bus, f"STREAM.PURGE.{stream}", {"filter": f"{stream}.pub.gone"})
            announce_leader(bus, stream)
            await eventually(lambda: follower.position == 4)

    assert reader.skipped == [(3, 4)]
    assert reader.messages == []


@pytest.mark.parametrize(("from_start", "read"), [(False, []), (True, [8, 9, 10])])
async def test_after_retention_has_passed_it_resets_and_goes_on_at_the_end_or_from_the_start(
    bus: Bus, from_start: bool, read: list[int]
) -> None:
    stream, reader = await a_stream(bus, max_msgs=3), Reader()
    follower = reader.follower(bus, stream, kind=Lossy, from_start=from_start, limits=PATIENT)

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(10))
        announce_leader(bus, stream)
        await eventually(lambda: follower.position == 10 and follower.caught_up)

    assert reader.resets == [RETENTION]
    assert (reader.sequences, reader.skipped) == (read, [])


async def test_retention_that_passes_while_it_fills_is_noticed_too(bus: Bus) -> None:
    stream, reader = await a_stream(bus, max_msgs=3), Reader()
    follower = reader.follower(bus, stream, kind=Lossy, limits=replace(PATIENT, idle_seconds=0.3))

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(10))
        await eventually(lambda: follower.position == 10 and follower.caught_up)

    assert reader.resets[:1] == [RETENTION]
    assert reader.skipped == []


async def made_anew(bus: Bus, stream: str) -> None:
    await js_api(bus, f"STREAM.DELETE.{stream}")
    await a_stream(bus, stream)


async def test_a_stream_that_is_made_anew_under_its_feet_is_another_epoch(bus: Bus) -> None:
    stream = await a_stream(bus)
    heard: list[bytes | str] = []
    follower = Follower(
        bus,
        stream,
        f"{stream}.pub.",
        f"{stream}.live.",
        deliver=lambda message: heard.append(message.payload),
        on_reset=heard.append,
        limits=PATIENT,
    )

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        before = follower.epoch
        await publish_numbers(publisher, stream, range(5))
        await eventually(lambda: follower.position == 5)
        await made_anew(bus, stream)
        await publish_numbers(publisher, stream, range(100, 108), key="new")
        await eventually(lambda: EPOCH_CHANGED in heard)
        await follower.until_caught_up()
        await publish_numbers(publisher, stream, range(108, 110), key="new")
        await eventually(lambda: follower.position == 10)

    assert follower.epoch != before
    assert heard[:6] == [b"0", b"1", b"2", b"3", b"4", EPOCH_CHANGED]
    assert heard[-2:] == [b"108", b"109"]


@pytest.mark.parametrize("place", ["pub", "live"])
async def test_what_the_bus_was_made_to_deliver_to_the_stream_is_not_the_streams(
    bus: Bus, place: str
) -> None:
    stream, reader = await a_stream(bus), Reader()
    follower = reader.follower(bus, stream)

    async with start_publisher(bus) as publisher, following(follower):
        await follower.until_caught_up()
        await deliver_from_elsewhere(bus, f"{stream}.{place}.k", sequence=1)
        if place == "pub":
            await eventually(lambda: follower.position == 1)
        await publish_numbers(publisher, stream, range(1))
        await eventually(lambda: reader.payloads == [b"0"])

    assert follower.position == (2 if place == "pub" else 1)
    assert [message.subject for message in reader.messages] == ["k"]


async def deliver_from_elsewhere(bus: Bus, to: str, *, sequence: int) -> None:
    """As whoever may only consume events can: by a request whose answers go there."""
    name = f"evil{uuid4().hex[:8]}"
    await js_api(
        bus,
        f"CONSUMER.DURABLE.CREATE.EVENTS.{name}",
        {
            "stream_name": "EVENTS",
            "config": {"durable_name": name, "filter_subject": f"events.{name}.k"},
        },
    )
    headers = encode_headers({"Nats-Sequence": str(sequence)})
    bus.send(f"events.{name}.k", b"forged", headers=headers)
    bus.send(f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{name}", b'{"batch": 1}', reply=to)
    async with asyncio.timeout(10):
        while not await was_delivered(bus, name):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def was_delivered(bus: Bus, consumer: str) -> bool:
    """Not whether nothing is pending: at first the consumer does not know of what was stored."""
    delivered = (await js_api(bus, f"CONSUMER.INFO.EVENTS.{consumer}"))["delivered"]
    return bool(delivered["consumer_seq"])


async def test_another_epoch_is_noticed_without_any_traffic(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    limits = FollowerLimits(idle_seconds=0.1, verify_seconds=0.2)
    follower = reader.follower(bus, stream, limits=limits)

    async with following(follower):
        await follower.until_caught_up()
        await made_anew(bus, stream)
        await eventually(lambda: reader.resets == [EPOCH_CHANGED])


async def test_after_another_epoch_a_follower_from_the_start_reads_all_of_it(bus: Bus) -> None:
    stream, reader = await a_stream(bus), Reader()
    follower = reader.follower(bus, stream, from_start=True)

    async with start_publisher(bus) as publisher, following(follower):
        await publish_numbers(publisher, stream, range(5))
        await eventually(lambda: follower.position == 5)
        await made_anew(bus, stream)
        await publish_numbers(publisher, stream, range(100, 103), key="new")
        await eventually(lambda: reader.payloads[-3:] == [b"100", b"101", b"102"])

    assert reader.sequences == [1, 2, 3, 4, 5, 1, 2, 3]
    assert reader.resets == [EPOCH_CHANGED]


async def test_a_stream_that_does_not_exist_yet_is_waited_for(bus: Bus) -> None:
    name, reader = f"t{uuid4().hex[:12]}", Reader()
    follower = reader.follower(bus, name, from_start=True)

    async with start_publisher(bus) as publisher, following(follower):
        await asyncio.sleep(0.05)  # so that it has looked in vain
        assert not follower.caught_up
        await a_stream(bus, name)
        await publish_numbers(publisher, name, range(2))
        await eventually(lambda: reader.sequences == [1, 2])
        await follower.until_caught_up()
