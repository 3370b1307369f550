"""A WebSocket: bytes of the peer to messages, while they are wanted, and its control frames."""

import asyncio
import time

from gateway.errors import EndReason
from gateway.transport.connection import Connection, Engine
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
from gateway.transport.turns import FRAMES_AT_ONCE

PING = ping_frame()
_COMMANDS_WAIT = 1
_UNREAD_ANSWERS = 2
_OTHERS_FIRST = 4
"""Why nothing is read now; several may hold at once."""

_CRUMB_BYTES = 128
"""A piece of a frame that is smaller costs more to take than it brings."""
_WHOLE = (Text, Binary)
_NANOSECONDS = 1_000_000_000


class WebSocketConnection(Connection):
    """A connection of messages; there is a parser only while one is arriving."""

    __slots__ = ("_bare_until", "_holds", "_incoming", "_reading_stopped")

    def __init__(self, transport: asyncio.Transport, engine: Engine) -> None:
        super().__init__(transport, engine)
        self._incoming: _Counted | None = None
        self._holds = 0
        self._reading_stopped = False
        self._bare_until = 0
        """Nanoseconds of the monotonic clock; what has come of bare frames is then forgiven."""

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._push(data)
        self.write_pending()  # much may come in one turn, and its answers are not to pile up

    def eof_received(self) -> None:
        """The peer sends no more: the transport closes itself."""

    # For the rooms above.

    def pause_reading(self) -> None:
        self._hold(_COMMANDS_WAIT)

    def resume_reading(self) -> None:
        self._release(_COMMANDS_WAIT)

    # For the connection.

    @property
    def _is_read_from(self) -> bool:
        return not self._holds

    def _await_drain(self) -> None:
        self._hold(_UNREAD_ANSWERS)

    def _go_on_reading(self) -> None:
        self._release(_UNREAD_ANSWERS)

    def _go_on_closing(self) -> None:
        self._release(_COMMANDS_WAIT | _UNREAD_ANSWERS)

    def _stop_reading(self) -> None:
        self._reading_stopped = True
        self._forget_unfinished()

    def _ping(self) -> None:
        self.send(PING)

    def _write_close(self, close: Close) -> None:
        self.transport.write(close_frame(close))

    # For the engine.

    def read_on(self) -> None:
        """It is its turn again."""
        self._release(_OTHERS_FIRST)

    @property
    def is_held_up(self) -> bool:
        """Whether its peer waits for us, and not we for it."""
        return bool(self._holds & ~_OTHERS_FIRST)

    def give_up(self) -> None:
        """Its message takes too long to come."""
        self._stop_reading()
        self._fail(EndReason.TOO_SLOW)

    # What comes.

    def _take(self, message: Message) -> None:
        if isinstance(message, Text):
            if self.is_open:
                self._call_receiver(message.text)
        elif isinstance(message, Ping):
            self.send(pong_frame(message.payload))
        elif isinstance(message, Close):
            self._end_by_peer(message)
        elif isinstance(message, Binary) and self.is_open:
            self._call_receiver(message.data)

    def _fail(self, close: EndReason | Close) -> None:
        """What came is no message; nothing is read after it."""
        if self.is_open:
            self._end(close)
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def _call_receiver(self, message: str | bytes) -> None:
        """What is above must not fail; if it does, it costs this connection and no other."""
        try:
            self._receiver.received(message)
        except Exception as error:
            self.abandon(error, "receiver_failed")

    def _push(self, data: bytes) -> None:
        """Take what has come."""
        if self._reading_stopped:
            self._let_others_go_first()  # to read what nobody wants takes its time too
            return
        if self._incoming is None:
            most = self._engine.limits.max_message_bytes
            if not self._holds and (message := parse_single_text_frame(data, most)) is not None:
                self._take(message)
                return
            self._incoming = _Counted(most)
        self._incoming.push(data)
        self._read(is_crumb=len(data) < _CRUMB_BYTES)

    def _read(self, *, is_crumb: bool = False) -> None:
        try:
            self._make_messages(is_crumb=is_crumb)
        except Violation as violation:
            self._stop_reading()
            self._fail(violation.close)
        self._count_unfinished()

    def _make_messages(self, *, is_crumb: bool) -> None:
        """For as long as they are wanted; of many, some, before others' turn."""
        left = FRAMES_AT_ONCE
        while (incoming := self._incoming) is not None and not self._holds:
            message = incoming.pull() if left else None
            if message is None:
                if incoming.is_empty:
                    self._forget_unfinished()
                elif not left:
                    self._let_others_go_first()
                elif is_crumb:
                    self._count_bare()
                return
            left -= 1
            is_crumb = False
            if self.is_open and isinstance(message, _WHOLE):
                incoming.is_another = True
            elif not isinstance(message, Close):
                self._count_bare()
            self._take(message)

    def _count_bare(self) -> None:
        """Bound what brings no message: its peers pay nothing for it, by no other limit.

        Raises:
            Violation: it is too much.
        """
        limit, now = self._engine.limits.bare_frames_per_second, time.monotonic_ns()
        until = max(self._bare_until, now) + _NANOSECONDS // limit
        if until - now > _NANOSECONDS:
            raise Violation(EndReason.RATE_LIMIT)
        self._bare_until = until

    @property
    def _is_wanted(self) -> bool:
        """Whether what its peer sends is to be read now."""
        return not self._holds and not self.transport.is_closing()

    def _let_others_go_first(self) -> None:
        """Read on in a later turn; the transport would bring yet more within this one."""
        if not self._is_wanted:
            return
        self._holds = _OTHERS_FIRST
        self.transport.pause_reading()
        self._engine.turns.wait(self)

    def _hold(self, reason: int) -> None:
        if not self.is_open:
            return  # its answer to the close has to be read
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= reason

    def _release(self, reason: int) -> None:
        if not self._holds & reason:
            return
        self._holds &= ~reason
        if self._is_wanted:
            self._read()
        if self._is_wanted:
            self.transport.resume_reading()

    def _count_unfinished(self) -> None:
        """Let all that have a message under way share one bound."""
        incoming = self._incoming
        if incoming is None:
            return
        held = incoming.held_bytes
        grown, incoming.counted_bytes = held - incoming.counted_bytes, held
        is_another, incoming.is_another = incoming.is_another, False
        self._engine.unfinished.count(self, grown, is_another=is_another)

    def _forget_unfinished(self) -> None:
        if self._incoming is not None:
            self._engine.unfinished.forget(self, self._incoming.counted_bytes)
            self._incoming = None


class _Counted(FrameParser):
    """Knows how much of it is counted, so that no connection has to while nothing arrives."""

    __slots__ = ("counted_bytes", "is_another")

    def __init__(self, max_message_bytes: int) -> None:
        super().__init__(max_message_bytes)
        self.counted_bytes = 0
        self.is_another = False
        """Whether a message has become whole since then."""
