"""The half of a connection that reads: bytes of the peer to messages, while they are wanted."""

import asyncio

from gateway.engine.incoming import Incoming, Message, Violation, lone_text
from gateway.engine.resources import Resources
from gateway.errors import TOO_SLOW, Close

COMMANDS_WAIT = 1
UNREAD_ANSWERS = 2
_OTHERS_FIRST = 4
"""Why nothing is read now; several may hold at once."""

_FRAMES_A_TURN = 256  # some milliseconds; megabytes of the smallest frames may lie ready


class Reading(asyncio.Protocol):
    """Makes messages of what comes; there is a parser only while one is arriving."""

    __slots__ = (
        "_engine", "_holds", "_incoming", "_is_deaf", "closing", "is_lost", "transport",
    )  # fmt: skip

    _engine: Resources

    def __init__(self, transport: asyncio.Transport, engine: Resources) -> None:
        self.closing: Close | None = None
        self.is_lost = False
        self.transport = transport
        self._engine = engine
        self._incoming: _Counted | None = None
        self._holds = 0
        self._is_deaf = False

    # Said by the whole connection.

    def _take(self, message: Message) -> None:
        raise NotImplementedError

    def _fail(self, violation: Violation) -> None:
        """What came is no message; nothing is read after it."""
        raise NotImplementedError

    # For the rooms above.

    @property
    def is_open(self) -> bool:
        return self.closing is None and not self.is_lost

    def pause_reading(self) -> None:
        """Let the peer wait: it has sent more than is done."""
        self._hold(COMMANDS_WAIT)

    def resume_reading(self) -> None:
        self._release(COMMANDS_WAIT)

    # For the engine.

    def came_early(self, data: bytes) -> None:
        """Read what came before the connection was opened in the next turn, and before all else."""
        if not data:
            return
        self._incoming = _Counted(self._engine.limits.max_message_bytes)
        self._incoming.push(data)
        self._let_others_go_first()

    # Within.

    def _push(self, data: bytes) -> None:
        """Take what has come."""
        if self._is_deaf:
            return
        if self._incoming is None:
            most = self._engine.limits.max_message_bytes
            if not self._holds and (message := lone_text(data, most)) is not None:
                self._take(message)
                return
            self._incoming = _Counted(most)
        self._incoming.push(data)
        self._read()

    def _read(self) -> None:
        self._make_messages()
        self._count_unfinished()

    def _make_messages(self) -> None:
        """For as long as they are wanted; of much, some, before others' turn."""
        try:
            for _ in range(_FRAMES_A_TURN):
                if self._holds or self._incoming is None:
                    return
                message = self._incoming.pull()
                if message is None:
                    if self._incoming.is_empty:
                        self._forget_unfinished()
                    return
                self._take(message)
        except Violation as violation:
            self._turn_deaf()
            self._fail(violation)
        else:
            self._let_others_go_first()

    def _let_others_go_first(self) -> None:
        """Read on in the next turn; the transport would bring yet more within this one."""
        if self._holds or self._incoming is None or self.transport.is_closing():
            return
        self._holds = _OTHERS_FIRST
        self.transport.pause_reading()
        self._engine.loop.call_soon(self._release, _OTHERS_FIRST)

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
        if not self._holds and not self.transport.is_closing():
            self.transport.resume_reading()
            self._read()

    def _turn_deaf(self) -> None:
        """Nothing that still comes can be understood."""
        self._is_deaf = True
        self._forget_unfinished()

    def _count_unfinished(self) -> None:
        """Let all that have a message under way share one bound; who would pass it, goes."""
        incoming = self._incoming
        if incoming is None:
            return
        engine, held = self._engine, incoming.held_bytes
        grown = held - incoming.counted_bytes
        incoming.counted_bytes = held
        engine.unfinished_bytes += grown
        if grown > 0 and engine.unfinished_bytes > engine.limits.total_unfinished_bytes:
            self._turn_deaf()
            self._fail(Violation(TOO_SLOW))

    def _forget_unfinished(self) -> None:
        if self._incoming is not None:
            self._engine.unfinished_bytes -= self._incoming.counted_bytes
            self._incoming = None


class _Counted(Incoming):
    """Knows how much of it is counted, so that no connection has to while nothing arrives."""

    __slots__ = ("counted_bytes",)

    def __init__(self, max_message_bytes: int) -> None:
        super().__init__(max_message_bytes)
        self.counted_bytes = 0
