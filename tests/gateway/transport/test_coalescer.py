"""What falls due within a turn, against the plainest model: a list of frames for each."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.coalescer import NOTHING_MORE, STALLED, WriteCoalescer
from gateway.transport.frames import Frame
from tests.gateway.connections import AConnection


class AListener:
    def __init__(self, live_from: int) -> None:
        self.live_from = live_from
        self.connection = AConnection()


class Loop:
    """Turns when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.outgoing = WriteCoalescer(self.calls.append)

    def turn(self) -> None:
        due = list(self.calls)
        self.calls.clear()
        assert len(due) <= 1, "one flush a turn is enough"
        for flush in due:
            flush()


@given(
    st.lists(st.integers(0, 10), min_size=1, max_size=6),
    st.lists(
        st.one_of(
            st.tuples(st.just("all"), st.lists(st.integers(0, 5), unique=True)),
            st.tuples(st.just("one"), st.integers(0, 5)),
            st.tuples(st.just("turn"), st.none()),
        ),
        max_size=30,
    ),
)
def test_each_gets_its_frames_in_order_and_in_one_write_a_turn(
    live_from: list[int], steps: list[tuple[str, list[int] | int | None]]
) -> None:
    loop, listeners = Loop(), [AListener(each) for each in live_from]
    expected: list[list[bytes]] = [[] for _ in listeners]
    writes: list[list[bytes]] = [[] for _ in listeners]

    def turn() -> None:
        loop.turn()
        for frames, written in zip(expected, writes, strict=True):
            if frames:
                written.append(b"".join(frames))
                frames.clear()

    for offset, (kind, who) in enumerate(steps):
        frame = Frame(b"<%d>" % offset)
        if kind == "turn":
            turn()
        elif isinstance(who, list):
            chosen = [number for number in who if number < len(listeners)]
            live = [number for number in chosen if offset >= live_from[number]]
            count, stalled = loop.outgoing.fan_out(
                frame, [listeners[number] for number in chosen], offset
            )
            assert (count, stalled) == (len(live), [])
            for number in live:
                expected[number].append(frame)
        elif isinstance(who, int) and who < len(listeners):
            loop.outgoing.queue(listeners[who].connection, frame)
            expected[who].append(frame)
    turn()

    assert [listener.connection.sent for listener in listeners] == writes


def test_connections_with_the_same_frames_pending_are_written_the_very_same_bytes() -> None:
    loop, listeners = Loop(), [AListener(0) for _ in range(3)]
    loop.outgoing.queue(listeners[2].connection, Frame(b"before"))

    for number in range(4):
        loop.outgoing.fan_out(Frame(b"%d" % number), listeners, number)
    loop.turn()

    one, other, third = (listener.connection.sent for listener in listeners)
    assert one == [b"0123"]
    assert one[0] is other[0], "joined once for both"
    assert third == [b"before0123"]


def test_a_fan_out_returns_stalled_listeners_and_leaves_out_those_that_are_ending() -> None:
    loop, listeners = Loop(), [AListener(0) for _ in range(3)]
    listeners[0].connection.pending, listeners[1].connection.pending = STALLED, NOTHING_MORE

    assert loop.outgoing.fan_out(Frame(b"x"), listeners, 1) == (1, [listeners[0]])
    loop.turn()

    assert [listener.connection.sent for listener in listeners] == [[], [], [b"x"]]
    assert listeners[0].connection.pending is STALLED
    assert listeners[1].connection.pending is NOTHING_MORE


def test_a_connection_that_ends_within_the_turn_is_not_written_to_again() -> None:
    loop, listeners = Loop(), [AListener(0) for _ in range(2)]
    loop.outgoing.fan_out(Frame(b"x"), listeners, 1)
    listeners[0].connection.write_pending()  # as a close does, before it says goodbye
    listeners[0].connection.pending = NOTHING_MORE

    loop.turn()

    assert listeners[0].connection.sent == [b"x"]
    assert listeners[1].connection.sent == [b"x"]
