"""A connection that is a WebSocket: it makes messages of what its peer sends, by RFC 6455.

There is a parser only while a message is arriving. What peers send of messages without ending
them is bounded for all of them together, and in time.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import EndReason
from gateway.transport.connection import COMMANDS_WAIT, UNREAD_REPLIES, Connection
from gateway.transport.deflate import Inflater
from gateway.transport.frames import Close, close_frame, ping_frame, pong_frame
from gateway.transport.parser import (
    Binary,
    FrameParser,
    Message,
    Ping,
    Text,
    Violation,
    parse_single_text_frame,
)
from gateway.transport.shared_state import Limits, SharedState

PING = ping_frame()

_OTHERS_FIRST = 4
"""Why nothing is read now, beside `COMMANDS_WAIT` and `UNREAD_REPLIES`."""

_CONNECTIONS_A_TURN = 8
_FRAMES_A_TURN = 8
"""Read of one connection; hardly any peer sends so many together."""
_SMALL_PIECE_BYTES = 128
"""To take a piece of a frame that is smaller costs more than it brings."""
_WHOLE = (Text, Binary)
_NANOSECONDS = 1_000_000_000


class ReadTurns:
    """Connections that have more to read, in a queue; each turn of the loop serves a few.

    Megabytes of the smallest frames may wait at each of thousands of connections. If all were
    read at once, that turn would last for seconds, and every other connection would wait. The
    transport of a connection in the queue is paused. A peer that sends little never comes here.
    """

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        """
        Args:
            schedule: Calls what it is given in the next turn.
        """
        self._schedule = schedule
        self._waiting: deque[Callable[[], None]] = deque()

    def wait(self, read_on: Callable[[], None]) -> None:
        """Call ``read_on`` once, after those that wait already. It must not raise."""
        if not self._waiting:
            self._schedule(self._serve)
        self._waiting.append(read_on)

    def _serve(self) -> None:
        waiting = self._waiting
        served = [waiting.popleft() for _ in range(min(len(waiting), _CONNECTIONS_A_TURN))]
        if waiting:
            self._schedule(self._serve)
        for read_on in served:
            read_on()


class UnfinishedMessages:
    """The connections that have sent a part of a message, the oldest part first.

    When they hold too many bytes, the oldest ends: an honest message is whole in a moment. If the
    one that grows next ended instead, peers that never end a message would leave no room to those
    whose message comes in two pieces.
    """

    def __init__(self, limits: Limits) -> None:
        self.bytes = 0
        """Held for all together, with what is whole and not read yet because reading is paused."""
        self._limits = limits
        self._since: OrderedDict[WebSocketConnection, float] = OrderedDict()

    def count(self, connection: "WebSocketConnection", grown: int, *, is_another: bool) -> None:
        """Count what has come of a message.

        Args:
            grown: By how many bytes the connection holds more than before.
            is_another: The message that had begun is whole now, and these are of the next.
        """
        self.bytes += grown
        since = self._since
        if is_another:
            since.pop(connection, None)
        if connection not in since:
            since[connection] = time.monotonic()
        while self.bytes > self._limits.total_unfinished_bytes and since:
            since.popitem(last=False)[0].give_up()

    def forget(self, connection: "WebSocketConnection", held: int) -> None:
        """The connection holds nothing any more."""
        self.bytes -= held
        self._since.pop(connection, None)

    def end_late(self, now: float) -> None:
        """End those whose message takes longer than `message_seconds`: once per sweep."""
        since = self._since
        while since:
            connection = next(iter(since))
            if now < since[connection] + self._limits.message_seconds:
                return
            del since[connection]
            if connection.lets_peer_wait:
                since[connection] = now
            else:
                connection.give_up()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the WebSockets of one process share while they are read from."""

    turns: ReadTurns
    unfinished: UnfinishedMessages


class WebSocketConnection(Connection):
    """A connection of messages, pings, pongs and a close."""

    __slots__ = ("_bare_until", "_parser", "_reading", "_reading_stopped")

    def __init__(
        self, transport: asyncio.Transport, shared: SharedState[Connection], reading: Reading
    ) -> None:
        super().__init__(transport, shared)
        self._reading = reading
        self._parser: _CountedParser | None = None
        self._reading_stopped = False
        self._bare_until = 0
        """Nanoseconds of the monotonic clock; after it no bare frame counts any more."""

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._feed(data)
        self.write_pending()  # much may come in one turn; its replies must not pile up

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading()
        super().connection_lost(exc)

    # For `UnfinishedMessages`.

    @property
    def lets_peer_wait(self) -> bool:
        """Whether reading is paused for longer than a turn: its message can't become whole."""
        return bool(self._holds & (COMMANDS_WAIT | UNREAD_REPLIES))

    def give_up(self) -> None:
        """End it, since its message takes too long, or too much; never raises."""
        try:
            self._stop_reading()
            self._fail(EndReason.TOO_SLOW)
        except Exception as error:  # the caller is the sweep, or another connection
            self.abandon(error, "giving_up_failed")

    # For the base class.

    def _ping(self) -> None:
        self.send(self._receiver.ping or PING)

    def _write_close(self, close: Close) -> None:
        self.transport.write(close_frame(close))

    def _read_on(self, *, is_small: bool = False) -> None:
        try:
            self._make_messages(is_small=is_small)
        except Violation as violation:
            self._stop_reading()
            self._fail(violation.close)
        self._count_unfinished()

    # What comes.

    def _feed(self, data: bytes) -> None:
        if self._reading_stopped:
            self._let_others_go_first()  # bytes that are dropped take time too
            return
        if self._parser is None:
            max_bytes = self._shared.limits.max_message_bytes
            if not self._holds and (text := parse_single_text_frame(data, max_bytes)) is not None:
                self._handle(text)
                return
            self._parser = _CountedParser(max_bytes, Inflater() if self.deflates else None)
        self._parser.feed_data(data)
        self._read_on(is_small=len(data) < _SMALL_PIECE_BYTES)

    def _make_messages(self, *, is_small: bool) -> None:
        """Until reading is paused, or `_FRAMES_A_TURN` are read and others have their turn."""
        left = _FRAMES_A_TURN
        while (parser := self._parser) is not None and not self._holds:
            message = parser.next_message() if left else None
            if message is None:
                if parser.is_empty:
                    self._forget_unfinished()
                elif not left:
                    self._let_others_go_first()
                elif is_small:
                    self._count_bare()
                return
            left -= 1
            is_small = False
            if self.is_open and isinstance(message, _WHOLE):
                parser.is_another = True
            elif not isinstance(message, Close):
                self._count_bare()
            self._handle(message)

    def _handle(self, message: Message) -> None:
        if isinstance(message, Text):
            if self.is_open:
                self._call_receiver(message.text)
        elif isinstance(message, Ping):
            self.send(pong_frame(message.payload))
        elif isinstance(message, Close):
            self._end_by_peer(message)
        elif isinstance(message, Binary) and self.is_open:
            self._call_receiver(message.data)

    def _end_by_peer(self, close: Close) -> None:
        """RFC 6455, section 5.5.1: a close is answered with a close, unless we sent ours before."""
        self._stop_reading()
        if self.is_open:
            self.write_pending()
            self._send_close(close)
        self.transport.close()  # once all has left that is pending
        self._lose(close)

    def _fail(self, close: EndReason | Close) -> None:
        """RFC 6455, section 7.1.7: nothing is read after what was no message."""
        if self.is_open:
            self._end(close)
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def _stop_reading(self) -> None:
        self._reading_stopped = True
        self._forget_unfinished()

    def _let_others_go_first(self) -> None:
        """Read on in a later turn; the transport would bring yet more within this one."""
        if self._may_read:
            self._holds = _OTHERS_FIRST
            self.transport.pause_reading()
            self._reading.turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        try:
            self._release(_OTHERS_FIRST)
        except Exception as error:  # others have their turn after it
            self.abandon(error, "reading_failed")

    def _count_bare(self) -> None:
        """Bound bare frames: no other limit makes a peer pay for what brings no message.

        Raises:
            Violation: there are more than `bare_frames_per_second`.
        """
        limit, now = self._shared.limits.bare_frames_per_second, time.monotonic_ns()
        until = max(self._bare_until, now) + _NANOSECONDS // limit
        if until - now > _NANOSECONDS:
            raise Violation(EndReason.RATE_LIMIT)
        self._bare_until = until

    def _count_unfinished(self) -> None:
        parser = self._parser
        if parser is None:
            return
        held = parser.held_bytes
        grown, parser.counted_bytes = held - parser.counted_bytes, held
        is_another, parser.is_another = parser.is_another, False
        self._reading.unfinished.count(self, grown, is_another=is_another)

    def _forget_unfinished(self) -> None:
        if self._parser is not None:
            self._reading.unfinished.forget(self, self._parser.counted_bytes)
            self._parser = None


class DeflatingConnection(WebSocketConnection):
    """One whose messages may be compressed, in both directions."""

    deflates = True

    __slots__ = ()


class _CountedParser(FrameParser):
    """Knows how much of it is counted, so that an idle connection need not."""

    __slots__ = ("counted_bytes", "is_another")

    def __init__(self, max_message_bytes: int, inflater: Inflater | None) -> None:
        super().__init__(max_message_bytes, inflater)
        self.counted_bytes = 0
        self.is_another = False
        """Whether a message has become whole since it was counted."""
