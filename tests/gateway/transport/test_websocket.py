"""One connection that reads, with a transport that does nothing by itself."""

import asyncio
import time
from typing import cast

import pytest
from websockets.frames import Opcode

from gateway.errors import EndReason
from gateway.transport.frames import Close, Frame, close_frame, pong_frame
from gateway.transport.websocket import WebSocketConnection
from tests.gateway.transport.peer_frames import masked
from tests.gateway.transport.transports import CLOSE_CODES, AHub, ATransport, a_wire


def now() -> float:
    return time.monotonic()


async def test_what_came_while_reading_is_paused_is_read_when_it_is_resumed() -> None:
    wire = a_wire()

    wire.connection.pause_reading()
    wire.connection.data_received(masked(Opcode.TEXT, b"a") + masked(Opcode.TEXT, b"b"))
    assert wire.receiver.messages == []
    wire.connection.resume_reading()

    assert wire.receiver.messages == ["a", "b"]


@pytest.mark.parametrize(
    "much",
    [
        masked(Opcode.PONG) * 2000,
        masked(Opcode.TEXT, b"x") * 2000,
        masked(Opcode.TEXT, fin=False)
        + masked(Opcode.CONT, fin=False) * 2000
        + masked(Opcode.CONT),
    ],
    ids=["pongs", "messages", "fragments"],
)
async def test_others_have_their_turn_between_the_frames_of_one_peer(much: bytes) -> None:
    wire = a_wire(bare_frames_per_second=10_000)

    wire.connection.data_received(much + masked(Opcode.TEXT, b"last"))

    assert "last" not in wire.receiver.messages
    assert wire.transport.is_reading is False, "or yet more would come in this turn"
    turns = 0
    while "last" not in wire.receiver.messages:
        turns += 1
        await asyncio.sleep(0)
        assert turns < 1000
    assert turns > 100
    assert wire.transport.is_reading
    assert wire.connection._parser is None


class FailsInItsTurn(WebSocketConnection):
    __slots__ = ()

    def _read_on(self, *, is_small: bool = False) -> None:
        if not cast(ATransport, self.transport).is_reading:
            raise RuntimeError("a connection that cannot be read on")
        super()._read_on(is_small=is_small)


async def test_a_connection_that_fails_in_its_turn_costs_no_other_its_turn() -> None:
    hub = AHub()
    failing, other = a_wire(hub, FailsInItsTurn), a_wire(hub)
    for each in (failing, other):
        each.connection.data_received(masked(Opcode.TEXT, b"x") * 9)

    await asyncio.sleep(0)

    assert failing.connection.closing is EndReason.INTERNAL_ERROR
    assert (hub.failures, len(other.receiver.messages)) == (1, 9)


async def test_a_connection_that_waits_for_its_turn_can_be_closed_and_lost() -> None:
    wire, other = a_wire(), a_wire()
    for each in (wire, other):
        each.connection.data_received(masked(Opcode.PONG) * 30 + masked(Opcode.CLOSE, b"\x03\xe8"))

    wire.connection.close(EndReason.SESSION_ENDED)
    other.lose()
    for _ in range(5):
        await asyncio.sleep(0)

    assert wire.transport.closed, "its answer to the close was read"
    assert wire.receiver.ended == CLOSE_CODES[EndReason.SESSION_ENDED]
    assert other.receiver.ended == Close(1006, "")


async def test_a_peers_close_is_answered_and_its_receiver_told_at_once() -> None:
    wire = a_wire()
    wire.connection.send(Frame(b"a"))

    wire.connection.data_received(
        masked(Opcode.TEXT, b"last") + masked(Opcode.CLOSE, b"\x03\xe8bye")
    )

    assert wire.receiver.messages == ["last"]
    assert wire.receiver.ended == Close(1000, "bye")
    assert wire.sent == b"a" + close_frame(Close(1000, "bye"))
    assert wire.transport.closed
    assert wire.hub.shared.connections, "its socket may have to flush"
    wire.connection.data_received(masked(Opcode.TEXT, b"too late"))
    wire.lose()
    assert wire.receiver.messages == ["last"]
    assert not wire.hub.shared.connections


async def test_a_peers_answer_to_our_close_ends_the_socket_and_what_came_before_is_dropped() -> (
    None
):
    wire = a_wire()
    wire.connection.pause_reading()
    wire.connection.close(EndReason.SESSION_ENDED)
    assert wire.transport.is_reading, "else the answer would never come"

    wire.connection.data_received(masked(Opcode.TEXT, b"x") + masked(Opcode.CLOSE, b"\x03\xf0"))

    assert wire.transport.closed
    assert wire.receiver.messages == []
    assert wire.receiver.ended == CLOSE_CODES[EndReason.SESSION_ENDED]


async def test_a_violation_ends_the_connection_and_nothing_is_read_after_it() -> None:
    wire = a_wire()

    wire.connection.data_received(b"\x83\x80\0\0\0\0" + masked(Opcode.TEXT, b"x"))
    wire.connection.data_received(masked(Opcode.TEXT, b"y"))

    assert wire.receiver.messages == []
    assert isinstance(wire.connection.closing, Close)
    assert wire.connection.closing.code == 1002
    assert wire.transport.has_written_eof


async def test_a_ping_is_answered_with_its_payload() -> None:
    wire = a_wire()
    wire.connection.data_received(masked(Opcode.PING, b"1") + masked(Opcode.PING, b"2"))
    assert wire.sent == pong_frame(b"1") + pong_frame(b"2")


async def test_an_idle_connection_has_no_parser() -> None:
    wire = a_wire()
    wire.connection.data_received(masked(Opcode.TEXT, b"whole"))
    assert wire.connection._parser is None
    wire.connection.data_received(masked(Opcode.TEXT, b"in two")[:3])
    assert wire.connection._parser is not None


async def test_unfinished_messages_are_bounded_together_and_the_oldest_ends() -> None:
    hub = AHub(total_unfinished_bytes=150)
    oldest, second, third = (a_wire(hub) for _ in range(3))
    whole = masked(Opcode.TEXT, b"x" * 80)

    oldest.connection.data_received(whole[:60])
    second.connection.data_received(whole[:60])
    oldest.connection.data_received(whole[60:65])
    assert oldest.connection.is_open, "it has only grown"
    third.connection.data_received(whole[:60])

    assert oldest.connection.closing is EndReason.TOO_SLOW
    assert 100 < hub.reading.unfinished.bytes <= 120
    for wire in (second, third):
        wire.connection.data_received(whole[60:])
        assert wire.receiver.messages == ["x" * 80]
    third.connection.data_received(masked(Opcode.TEXT, b"x" * 80, fin=False))
    assert third.connection.is_open, "there is room again"
    third.lose()
    assert hub.reading.unfinished.bytes == 0


async def test_a_message_that_begins_after_another_ended_is_not_the_oldest() -> None:
    hub = AHub(total_unfinished_bytes=150, message_seconds=5)
    talker, holder = a_wire(hub), a_wire(hub)
    whole = masked(Opcode.TEXT, b"x" * 80)

    talker.connection.data_received(whole[:60])
    holder.connection.data_received(whole[:60])
    talker.connection.data_received(whole[60:] + whole[:60])
    a_wire(hub).connection.data_received(whole[:60])

    assert holder.connection.closing is EndReason.TOO_SLOW
    assert talker.connection.is_open


async def test_a_message_that_is_not_whole_in_time_ends_its_connection() -> None:
    hub = AHub(message_seconds=5)
    frame, parts, whole, idle = (a_wire(hub) for _ in range(4))
    half = masked(Opcode.TEXT, b"half")
    frame.connection.data_received(half[:4])
    parts.connection.data_received(masked(Opcode.TEXT, b"a part", fin=False))
    whole.connection.data_received(half[:4])
    whole.connection.data_received(half[4:])

    hub.reading.unfinished.end_late(now() + 4)
    assert frame.connection.is_open
    assert parts.connection.is_open
    frame.connection.data_received(half[4:8])
    parts.connection.data_received(masked(Opcode.PING) + masked(Opcode.CONT, b"another", fin=False))
    hub.reading.unfinished.end_late(now() + 6)

    assert frame.connection.closing == parts.connection.closing is EndReason.TOO_SLOW
    assert whole.connection.is_open
    assert idle.connection.is_open
    assert hub.reading.unfinished.bytes == 0


async def test_a_peer_that_is_not_read_from_within_a_message_has_its_time_anew() -> None:
    hub = AHub(message_seconds=5)
    wire = a_wire(hub)
    wire.connection.data_received(masked(Opcode.TEXT, b"half")[:4])
    wire.connection.pause_reading()

    hub.reading.unfinished.end_late(now() + 6)
    wire.connection.resume_reading()
    hub.reading.unfinished.end_late(now() + 10)
    assert wire.connection.is_open
    hub.reading.unfinished.end_late(now() + 12)

    assert wire.connection.closing is EndReason.TOO_SLOW


async def test_what_came_while_reading_is_paused_counts_as_unfinished_until_it_is_read() -> None:
    hub = AHub(total_unfinished_bytes=100)
    wire = a_wire(hub)
    wire.connection.pause_reading()

    wire.connection.data_received(masked(Opcode.TEXT, b"x" * 80))
    assert hub.reading.unfinished.bytes > 80
    wire.connection.resume_reading()
    assert hub.reading.unfinished.bytes == 0

    wire.connection.pause_reading()
    wire.connection.data_received(masked(Opcode.TEXT, b"x" * 120))
    assert wire.connection.closing is EndReason.TOO_SLOW
    assert hub.reading.unfinished.bytes == 0


@pytest.mark.parametrize(
    "pieces",
    [
        [masked(Opcode.PING) * 1000],
        [masked(Opcode.PONG)] * 1000,
        [masked(Opcode.TEXT, fin=False), *[masked(Opcode.CONT, fin=False)] * 1000],
        [bytes([each]) for each in masked(Opcode.TEXT, b"x" * 1000)],
    ],
    ids=["pings", "pongs", "fragments", "bytes"],
)
async def test_a_peer_that_sends_too_many_bare_frames_is_closed(pieces: list[bytes]) -> None:
    wire = a_wire(bare_frames_per_second=10)

    for piece in pieces:
        wire.connection.data_received(piece)
        await asyncio.sleep(0)

    assert wire.connection.closing is EndReason.RATE_LIMIT
    assert wire.connection._parser is None
    wire.connection.data_received(masked(Opcode.PING))
    assert wire.sent.endswith(close_frame(CLOSE_CODES[EndReason.RATE_LIMIT]))


async def test_messages_and_their_large_pieces_are_no_bare_frames() -> None:
    wire = a_wire(bare_frames_per_second=10)
    frame = masked(Opcode.TEXT, b"x" * 10_000)

    for _ in range(30):
        wire.connection.data_received(frame[:5000])
        wire.connection.data_received(frame[5000:])

    assert wire.connection.is_open
    assert len(wire.receiver.messages) == 30


async def test_a_peer_that_sends_on_after_our_close_is_not_read_from_for_long() -> None:
    wire = a_wire(bare_frames_per_second=10)
    wire.connection.close(EndReason.SESSION_ENDED)

    wire.connection.data_received(masked(Opcode.TEXT, b"x") * 1000)
    for _ in range(3):
        await asyncio.sleep(0)

    assert wire.connection._parser is None
    assert wire.receiver.messages == []


async def test_bytes_that_are_dropped_are_read_in_turns_too() -> None:
    wire = a_wire()
    wire.connection.data_received(b"\x83\x80\0\0\0\0")

    wire.connection.data_received(b"x" * 100_000)

    assert wire.transport.is_reading is False
    await asyncio.sleep(0)
    assert wire.transport.is_reading, "or its end would not be noticed"


async def test_a_message_that_comes_whole_does_not_count_as_unfinished() -> None:
    wire = a_wire(total_unfinished_bytes=0)
    wire.connection.data_received(masked(Opcode.TEXT, b"x" * 1000))
    assert wire.receiver.messages == ["x" * 1000]
    assert wire.connection.is_open
