"""Reading streams on a real server."""

import pytest

from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, BusUnavailable, Reply, StreamMissing
from tests.shared.jetstream.builders import a_stream, js_api, publish_numbers


async def a_filled_stream(bus: Bus, count: int = 5) -> str:
    stream = await a_stream(bus)
    async with start_publisher(bus) as publisher:
        await publish_numbers(publisher, stream, range(count))
    return stream


async def test_a_batch_has_the_next_messages_and_says_how_many_follow(bus: Bus) -> None:
    stream = await a_filled_stream(bus)

    batch = await StreamReader(bus, stream).batch({"seq": 2, "batch": 3})

    assert [(m.sequence, m.subject, m.payload) for m in batch.messages] == [
        (2, f"{stream}.pub.k", b"1"),
        (3, f"{stream}.pub.k", b"2"),
        (4, f"{stream}.pub.k", b"3"),
    ]
    assert batch.pending == 1
    assert batch.messages[0].time.endswith("Z")


async def test_a_batch_beyond_the_end_is_empty(bus: Bus) -> None:
    stream = await a_filled_stream(bus)

    batch = await StreamReader(bus, stream).batch({"seq": 6, "batch": 3})

    assert (batch.messages, batch.pending) == ([], 0)


async def test_the_last_of_many_subjects_say_how_far_the_replica_is(bus: Bus) -> None:
    stream = await a_filled_stream(bus)

    batch = await StreamReader(bus, stream).batch({"multi_last": [f"{stream}.pub.>"], "batch": 9})

    assert [message.sequence for message in batch.messages] == [5]
    assert batch.up_to == 5


async def test_single_messages_are_found_by_sequence_and_by_subject(bus: Bus) -> None:
    stream = await a_filled_stream(bus)
    reader = StreamReader(bus, stream)

    second, last = await reader.message(2), await reader.last_of(f"{stream}.pub.k")

    assert second is not None
    assert second.payload == b"1"
    assert last is not None
    assert last.sequence == 5
    assert await reader.message(6) is None
    assert await reader.last_of(f"{stream}.pub.other") is None


async def test_a_stream_that_is_not_there_is_unavailable_and_named_missing(bus: Bus) -> None:
    with pytest.raises(BusUnavailable):
        await StreamReader(bus, "NOWHERE").batch({"seq": 1, "batch": 1})
    with pytest.raises(StreamMissing):
        await StreamReader(bus, "NOWHERE").state()


async def test_a_request_that_the_server_refuses_is_no_empty_answer(bus: Bus) -> None:
    stream = await a_filled_stream(bus)

    with pytest.raises(BusUnavailable, match="408"):
        await StreamReader(bus, stream).batch({"seq": 1, "start_time": "2020-01-01T00:00:00Z"})


async def test_the_state_tells_first_last_and_epoch(bus: Bus) -> None:
    stream = await a_stream(bus, metadata={"epoch": "e1"})

    empty = await StreamReader(bus, stream).state()
    async with start_publisher(bus) as publisher:
        await publish_numbers(publisher, stream, range(3))
    full = await StreamReader(bus, stream).state()
    await js_api(bus, f"STREAM.PURGE.{stream}", {"seq": 3})
    purged = await StreamReader(bus, stream).state()
    await js_api(bus, f"STREAM.PURGE.{stream}")
    gone = await StreamReader(bus, stream).state()

    assert (empty.first, empty.last, empty.epoch) == (1, 0, "e1")
    assert (full.first, full.last) == (1, 3)
    assert (purged.first, purged.last) == (3, 3)
    assert (gone.first, gone.last) == (4, 3)
    last = await StreamReader(bus, stream).message(3)
    assert last is None


async def test_the_time_of_the_last_message_is_written_alike_wherever_it_stands(bus: Bus) -> None:
    stream, live = await a_stream(bus), list[bytes]()
    await bus.subscribe(f"{stream}.live.>", lambda _s, _p, headers, _r: live.append(headers or b""))

    async with start_publisher(bus) as publisher:
        await publish_numbers(publisher, stream, range(1))

    message = await StreamReader(bus, stream).message(1)
    assert message is not None
    assert (await StreamReader(bus, stream).state()).last_time == message.time
    assert message._replace(headers=live[0]).time == message.time


async def test_the_leader_knows_whether_anything_follows(bus: Bus) -> None:
    stream = await a_filled_stream(bus)

    reader = StreamReader(bus, stream)
    assert await reader.next_on_leader(">", 5) is not None
    assert await reader.next_on_leader(">", 6) is None
    with pytest.raises(BusUnavailable):
        await StreamReader(bus, "NOWHERE").next_on_leader(">", 1)


async def a_batch_that_lost(bus: Bus, lost: int) -> None:
    """Answer a batch of three by hand, without the given one of its four parts."""
    parts = [
        b"NATS/1.0\r\nNats-Subject: s\r\nNats-Sequence: %d\r\nNats-Last-Sequence: %d\r\n\r\n"
        % (sequence, sequence - 1 if sequence > 1 else 0)
        for sequence in (1, 2, 3)
    ]
    parts.append(b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 3\r\n\r\n")

    def answer(_subject: bytes, _payload: bytes, _headers: bytes | None, reply: bytes) -> None:
        for index, headers in enumerate(parts):
            if index != lost:
                bus.send(reply.decode(), b"", headers=headers)

    await bus.subscribe(f"$JS.API.DIRECT.GET.LOSSY{lost}", answer)


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
async def test_a_part_of_a_batch_that_got_lost_does_not_pass_for_a_hole(
    bus: Bus, lost: int
) -> None:
    await a_batch_that_lost(bus, lost)

    with pytest.raises(BusUnavailable):
        await StreamReader(bus, f"LOSSY{lost}", answer_seconds=0.3).batch({"seq": 1})


async def test_a_batch_of_which_nothing_got_lost_is_whole(bus: Bus) -> None:
    await a_batch_that_lost(bus, 9)

    batch = await StreamReader(bus, "LOSSY9").batch({"seq": 1})

    assert [message.sequence for message in batch.messages] == [1, 2, 3]


async def test_replies_are_plain_tuples_of_payload_and_headers(bus: Bus) -> None:
    replies = await bus.request_many(
        "$JS.API.INFO", b"", is_last=lambda _reply: True, timeout_seconds=20
    )

    assert [type(reply) for reply in replies] == [Reply]
