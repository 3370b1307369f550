"""One connection, with a transport that does nothing by itself."""

import asyncio
import time
from typing import cast

import pytest
from websockets.frames import Opcode

from gateway.errors import EndReason
from gateway.transport.connection import Connection
from gateway.transport.frames import Close, Frame, close_frame
from gateway.transport.websocket import PING
from tests.gateway.transport.peer_frames import masked
from tests.gateway.transport.transports import CLOSE_CODES, AHub, AReceiver, ATransport, a_wire


def now() -> float:
    return time.monotonic()


async def turns(count: int) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_frames_of_one_turn_leave_in_one_write_in_the_order_in_which_they_were_sent() -> None:
    wire = a_wire()

    wire.connection.send(Frame(b"a"))
    wire.connection.send(Frame(b"b"))

    assert wire.transport.written == []
    assert wire.sent == b"ab"
    assert wire.transport.written == [b"ab"]


async def test_a_socket_that_fails_costs_one_connection_and_the_others_get_their_frames(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub = AHub()
    first, failing, last = (a_wire(hub) for _ in range(3))
    failing.transport.fails = True
    for wire in (first, failing, last):
        wire.connection.send(Frame(b"a"))

    hub.end_turn()

    assert failing.transport.aborted, "what it was sent has a hole"
    assert hub.failures == 1, "it is counted"
    assert "write_failed" in capsys.readouterr().out
    last.connection.send(Frame(b"b"))
    assert (first.sent, last.sent) == (b"a", b"ab")


async def test_a_close_that_cannot_be_written_is_an_abort(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wire = a_wire()
    wire.transport.fails = True

    wire.connection.close(EndReason.RESTARTING)

    assert wire.transport.aborted
    assert not wire.connection.is_open
    assert "close_failed" in capsys.readouterr().out


async def test_a_close_comes_after_what_is_pending_and_nothing_comes_after_a_close() -> None:
    wire = a_wire()

    wire.connection.send(Frame(b"a"))
    wire.connection.close(EndReason.RESTARTING)
    wire.connection.close(EndReason.SESSION_ENDED)
    wire.connection.send(Frame(b"b"))

    assert not wire.connection.is_open
    assert wire.sent == b"a" + close_frame(CLOSE_CODES[EndReason.RESTARTING])


async def test_a_frame_that_is_sent_goes_to_a_stalled_socket_in_its_order() -> None:
    wire = a_wire()
    wire.connection.send(Frame(b"a"))
    wire.stall()

    wire.connection.send(Frame(b"b"))
    assert wire.connection.offer(Frame(b"c"))
    wire.drain()
    wire.connection.send(Frame(b"d"))

    assert wire.sent == b"abcd"


async def test_a_stalled_connection_is_offered_what_its_bound_allows() -> None:
    wire = a_wire(max_pending_bytes=100)
    wire.stall(unsent=60)

    assert wire.connection.offer(Frame(b"x" * 40))
    assert not wire.connection.offer(Frame(b"y"))
    assert wire.sent == b"x" * 40


async def test_all_stalled_connections_together_are_bounded_and_each_is_counted_once() -> None:
    hub = AHub(max_pending_bytes=100, total_pending_bytes=150)
    one, other = a_wire(hub), a_wire(hub)
    one.stall(unsent=80)
    other.stall(unsent=60)

    assert hub.shared.stalled_bytes == 140
    assert not one.connection.offer(Frame(b"x" * 15))
    assert one.connection.offer(Frame(b"x" * 10))
    assert hub.shared.stalled_bytes == 150

    one.drain()
    assert hub.shared.stalled_bytes == 60
    other.lose()
    assert hub.shared.stalled_bytes == 0


async def test_a_peer_with_too_many_unread_replies_is_not_read_from_until_it_reads() -> None:
    wire = a_wire(max_pending_bytes=100)
    wire.stall(unsent=60)

    wire.connection.data_received(masked(Opcode.PING, b"x" * 60) + masked(Opcode.TEXT, b"later"))

    assert wire.transport.is_reading is False
    assert wire.receiver.messages == []
    wire.drain()
    assert wire.transport.is_reading
    assert wire.receiver.messages == ["later"]


async def test_while_all_together_leave_too_much_unread_no_stalled_peer_is_answered() -> None:
    hub = AHub(total_pending_bytes=100)
    one, other, reader = (a_wire(hub) for _ in range(3))
    one.stall(unsent=60)
    other.stall(unsent=30)
    pings = masked(Opcode.PING, b"x" * 20) * 50 + masked(Opcode.TEXT, b"later")

    for wire in (one, other, reader):
        wire.connection.data_received(pings)
    await turns(50)
    assert hub.shared.stalled_bytes <= 100 + 2 * 22, "one answer each at most"
    assert (one.transport.is_reading, other.transport.is_reading) == (False, False)
    assert reader.receiver.messages == ["later"], "who reads is not concerned"
    one.drain()
    other.drain()
    await turns(50)
    assert one.receiver.messages == other.receiver.messages == ["later"]


async def test_a_connection_that_is_stalled_for_too_long_is_closed_and_then_aborted() -> None:
    wire = a_wire(lag_seconds=5, close_seconds=3)
    wire.stall()

    wire.connection.check(now() + 4)
    assert wire.connection.is_open
    wire.connection.check(now() + 6)
    assert wire.connection.closing is EndReason.TOO_SLOW
    assert not wire.transport.aborted
    wire.connection.check(now() + 10)
    assert wire.transport.aborted


async def test_a_connection_that_drains_has_its_time_anew_unless_it_is_behind() -> None:
    wire = a_wire(lag_seconds=5)
    wire.stall()
    wire.drain()
    wire.connection.check(now() + 6)
    assert wire.connection.is_open

    wire.connection.fall_behind()
    wire.stall()
    wire.drain()
    wire.connection.check(now() + 6)
    assert wire.connection.closing is EndReason.TOO_SLOW


async def test_a_connection_that_falls_behind_has_the_whole_time_though_it_was_stalled_before() -> (
    None
):
    wire = a_wire(lag_seconds=5)
    wire.stall()
    stalled_until = wire.connection.wakes_at

    wire.connection.fall_behind()
    behind_until = wire.connection.wakes_at
    assert behind_until > stalled_until
    wire.drain()
    wire.stall()
    wire.drain()
    assert wire.connection.wakes_at == behind_until, "to read a little is not to catch up"


async def test_a_connection_that_caught_up_while_stalled_has_its_time_anew() -> None:
    wire = a_wire(lag_seconds=5)
    wire.connection.fall_behind()
    wire.stall()
    behind_until = wire.connection.wakes_at

    wire.connection.keep_up()
    assert wire.connection.wakes_at > behind_until
    wire.connection.check(now() + 6)
    assert wire.connection.closing is EndReason.TOO_SLOW


async def test_falling_behind_gives_a_closing_connection_no_more_time() -> None:
    wire = a_wire(lag_seconds=50, close_seconds=1)
    wire.stall()
    wire.connection.close(EndReason.SESSION_ENDED)

    wire.connection.fall_behind()

    wire.connection.check(now() + 2)
    assert wire.transport.aborted


async def test_a_connection_that_caught_up_is_not_behind() -> None:
    wire = a_wire(lag_seconds=5)
    wire.connection.fall_behind()
    wire.connection.keep_up()
    wire.connection.check(now() + 6)
    assert wire.connection.is_open


@pytest.mark.parametrize("end", ["drained", "closed and lost", "lost"])
async def test_waiting_for_a_stalled_socket_ends_when_it_drains_or_is_over(end: str) -> None:
    wire = a_wire()
    await wire.connection.until_drained()
    wire.stall()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(wire.connection.until_drained())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        if end == "drained":
            wire.drain()
        else:
            if end == "closed and lost":
                wire.connection.close(EndReason.SESSION_ENDED)
            wire.lose()


async def test_cancelling_one_wait_for_a_stalled_socket_cancels_no_other() -> None:
    wire = a_wire()
    wire.stall()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        one, other = (group.create_task(wire.connection.until_drained()) for _ in range(2))
        for _ in range(3):
            await asyncio.sleep(0)
        one.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert (one.done(), other.done()) == (True, False)
        wire.drain()
    assert not other.cancelled()


async def test_waiting_writes_what_is_pending_first() -> None:
    wire = a_wire()
    wire.connection.send(Frame(b"a"))
    await wire.connection.until_drained()
    assert wire.transport.written == [b"a"]


async def test_a_connection_closes_after_the_seconds_that_were_set_last() -> None:
    wire = a_wire()

    wire.connection.close_after(-1, EndReason.NOT_READY)
    wire.connection.close_after(100, EndReason.RATE_LIMIT)
    wire.connection.check(now())
    assert wire.connection.is_open
    assert wire.connection.wakes_at <= now() + 100

    wire.connection.close_after(-1, EndReason.TOKEN_EXPIRED)
    assert wire.connection.wakes_at <= now()
    wire.connection.check(now())
    assert wire.connection.closing is EndReason.TOKEN_EXPIRED


async def test_a_cut_sends_the_close_and_nothing_that_was_pending() -> None:
    wire = a_wire()

    wire.connection.send(Frame(b"a"))
    wire.connection.cut(EndReason.SESSION_ENDED)

    assert wire.sent == close_frame(CLOSE_CODES[EndReason.SESSION_ENDED])
    assert not wire.transport.aborted


async def test_a_cut_aborts_a_stalled_connection_at_once() -> None:
    wire = a_wire()
    wire.stall()

    wire.connection.cut(EndReason.SESSION_ENDED)

    assert wire.transport.aborted
    wire.lose()
    assert wire.receiver.ended == CLOSE_CODES[EndReason.SESSION_ENDED]
    assert wire.hub.ends == [CLOSE_CODES[EndReason.SESSION_ENDED]]


async def test_a_silent_peer_is_pinged_and_then_told_why_it_ends_and_not_waited_for() -> None:
    wire = a_wire(ping_seconds=10, pong_seconds=5)

    wire.connection.check(now() + 11)
    assert wire.sent == PING
    wire.connection.check(now() + 15)
    assert not wire.transport.closed
    wire.connection.check(now() + 17)
    assert wire.sent == PING + close_frame(CLOSE_CODES[EndReason.SILENT])
    assert wire.transport.closed
    assert wire.receiver.ended == CLOSE_CODES[EndReason.SILENT]
    wire.connection.check(now() + 30)
    assert wire.transport.aborted, "it takes nothing"


async def test_a_silent_peer_that_takes_nothing_is_dropped() -> None:
    wire = a_wire(ping_seconds=10, pong_seconds=5, lag_seconds=100)

    wire.connection.check(now() + 11)
    wire.hub.end_turn()
    wire.stall()
    wire.connection.check(now() + 17)

    assert wire.transport.aborted
    assert wire.sent == PING


async def test_any_sign_of_life_keeps_a_connection() -> None:
    wire = a_wire(ping_seconds=10, pong_seconds=5)

    wire.connection.check(now() + 11)
    wire.connection.data_received(masked(Opcode.PONG)[:1])  # not even whole
    wire.connection.check(now() + 17)
    assert not wire.transport.aborted
    wire.connection.check(now() + 22)
    assert wire.sent == PING + PING


async def test_a_peer_that_is_not_read_from_is_not_silent() -> None:
    wire = a_wire(ping_seconds=10, pong_seconds=5)
    wire.connection.pause_reading()

    wire.connection.check(now() + 11)
    wire.connection.check(now() + 17)

    assert not wire.transport.aborted


class AStream(Connection):
    """A connection from which nothing is read, and whose peer answers neither ping nor close."""

    __slots__ = ()

    def _ping(self) -> None:
        self.send(Frame(b"ping"))
        self._heard = True

    def _write_close(self, close: Close) -> None:
        self.transport.write(b"%d" % close.code)
        self.transport.close()


async def test_a_connection_that_reads_nothing_is_pinged_and_never_taken_for_silent() -> None:
    hub, transport = AHub(ping_seconds=10, pong_seconds=5), ATransport()
    stream = AStream(cast(asyncio.Transport, transport), hub.shared)
    stream.open(AReceiver())

    for seconds in range(100):
        stream.check(now() + seconds)
        hub.end_turn()

    assert len(transport.written) in range(8, 12)
    assert stream.is_open


async def test_a_connection_that_reads_nothing_stalls_and_drains_and_ends_like_others() -> None:
    hub, transport, receiver = AHub(max_pending_bytes=100), ATransport(), AReceiver()
    stream = AStream(cast(asyncio.Transport, transport), hub.shared)
    stream.open(receiver)
    transport.unsent = 90
    stream.pause_writing()
    assert not stream.offer(Frame(b"x" * 20))
    transport.unsent = 0
    stream.resume_writing()

    stream.send(Frame(b"last"))
    stream.close(EndReason.RESTARTING)
    stream.connection_lost(None)

    close = CLOSE_CODES[EndReason.RESTARTING]
    assert transport.written == [b"last", b"%d" % close.code]
    assert transport.closed
    assert receiver.ended == close
    assert not hub.shared.connections
