"""One connection, with a socket that does nothing by itself."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.connection import Connection
from gateway.engine.frame import Frame, size_of
from gateway.engine.limits import Limits
from gateway.errors import Close

LIMITS = Limits(max_pending_bytes=100, write_seconds=5, close_seconds=3)


class ASocket:
    def __init__(self) -> None:
        self.wakes = 0
        self.aborted = False

    def wake(self) -> None:
        self.wakes += 1

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        self.aborted = True


def a_connection() -> tuple[Connection, ASocket]:
    socket = ASocket()
    return Connection(socket, LIMITS), socket


def take(connection: Connection) -> Frame | None:
    frame = connection.next_frame()
    if frame is not None:
        connection.wrote(frame)
    return frame


async def test_frames_leave_in_the_order_in_which_they_were_sent() -> None:
    connection, socket = a_connection()

    connection.send(Frame("a"))
    connection.send(Frame("ü"))

    assert (socket.wakes, connection.buffered_bytes) == (2, 3)
    assert [take(connection), take(connection), take(connection)] == ["a", "ü", None]
    assert connection.buffered_bytes == 0


async def test_a_close_comes_after_what_is_queued_and_nothing_comes_after_a_close() -> None:
    connection, _ = a_connection()

    connection.send(Frame("a"))
    connection.close(1012, "restarting")
    connection.close(1008, "too late")
    connection.send(Frame("b"))

    assert not connection.is_open
    assert [take(connection), take(connection)] == ["a", None]
    assert connection.closing == Close(1012, "restarting")


async def test_past_the_bound_the_queue_is_dropped_and_the_reader_asked_to_come_back() -> None:
    connection, _ = a_connection()

    for _number in range(10):
        connection.send(Frame("x" * 11))

    assert connection.closing == Close(1013, "too slow")
    assert connection.buffered_bytes == 0
    assert take(connection) is None


async def test_one_frame_larger_than_the_bound_can_be_sent_to_who_keeps_up() -> None:
    connection, _ = a_connection()

    connection.send(Frame("x" * 500))

    assert connection.is_open
    assert take(connection) == "x" * 500


@given(st.lists(st.text(max_size=60) | st.none(), max_size=40))
def test_the_buffer_is_always_counted_and_bounded(steps: list[str | None]) -> None:
    async def run() -> None:
        connection, _ = a_connection()
        queued: list[str] = []
        for step in steps:
            if step is None:
                assert take(connection) == (queued.pop(0) if queued else None)
            else:
                connection.send(Frame(step))
                queued.append(step)
            if not connection.is_open:
                assert connection.buffered_bytes == 0
                assert sum(size_of(Frame(text)) for text in queued) > LIMITS.max_pending_bytes
                return
            assert connection.buffered_bytes == sum(size_of(Frame(text)) for text in queued)
            assert connection.buffered_bytes <= max(LIMITS.max_pending_bytes, 240)

    asyncio.run(run())


async def test_the_sweep_gives_up_a_socket_that_takes_nothing() -> None:
    connection, socket = a_connection()
    now = asyncio.get_running_loop().time()
    connection.send(Frame("a"))
    connection.next_frame()  # and the socket never comes back

    connection.check(monotonic=now + 4, unix=0)
    assert connection.is_open
    connection.check(monotonic=now + 6, unix=0)
    assert connection.closing == Close(1013, "too slow")
    assert not socket.aborted
    connection.check(monotonic=now + 10, unix=0)
    assert socket.aborted


async def test_the_sweep_closes_when_the_moment_has_come_and_the_last_word_counts() -> None:
    connection, _ = a_connection()
    now = asyncio.get_running_loop().time()

    connection.close_at(100.0, 1008, "first")
    connection.close_at(200.0, 1008, "Token expired")

    connection.check(monotonic=now, unix=199.9)
    assert connection.is_open
    connection.check(monotonic=now, unix=200.0)
    assert connection.closing == Close(1008, "Token expired")


async def test_waiting_for_the_queue_ends_when_it_is_empty_given_up_or_lost() -> None:
    for end in ("taken", "given up", "lost"):
        connection, _ = a_connection()
        await connection.until_drained()
        connection.send(Frame("x" * 90))
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            waiting = group.create_task(connection.until_drained())
            await asyncio.sleep(0)
            assert not waiting.done()
            if end == "taken":
                take(connection)
            elif end == "given up":
                connection.send(Frame("x" * 90))
            else:
                connection.mark_lost()


async def test_who_is_cut_is_sent_nothing_more_but_why() -> None:
    connection, socket = a_connection()

    connection.send(Frame("a"))
    connection.cut(1008, "Session ended")

    assert (take(connection), connection.buffered_bytes) == (None, 0)
    assert connection.closing == Close(1008, "Session ended")
    assert not socket.aborted


async def test_who_is_cut_while_it_takes_nothing_is_dropped_at_once() -> None:
    connection, socket = a_connection()

    connection.send(Frame("a"))
    connection.next_frame()  # the socket has it, and does not say that it has left
    connection.cut(1008, "Session ended")

    assert socket.aborted
