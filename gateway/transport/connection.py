"""One open socket: a transport, what it is due, and what is above it. No task, queue or timer."""

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar, Protocol

import structlog

from gateway.errors import EndReason
from gateway.transport.coalescer import NOTHING_MORE, STALLED
from gateway.transport.frames import Close, close_frame, pong_frame
from gateway.transport.parser import Binary, Message, Ping, Text
from gateway.transport.reading import COMMANDS_WAIT, UNREAD_ANSWERS
from gateway.transport.resources import Resources
from gateway.transport.timing import Timing
from shared.contracts.ids import ConnectionId

log = structlog.get_logger(__name__)

LOST = Close(1006, "")
"""Never sent: nobody reads it."""


class Receiver(Protocol):
    """Whoever is above a connection. Called from the loop: it neither waits nor fails."""

    close_codes: ClassVar[Mapping[EndReason, Close]]
    """What its protocol tells a peer for each reason to end."""

    def received(self, message: str | bytes) -> None:
        """A whole message came, on a connection that is open."""

    def lost(self, close: Close) -> None:
        """It is over: nothing comes any more, and what is sent goes nowhere."""


class Engine(Resources, Protocol):
    """Whoever keeps the connections."""

    def start(self, connection: "Connection", work: Coroutine[Any, Any, None]) -> None: ...

    def begin_work(self) -> None: ...

    def end_work(self) -> None: ...

    def add(self, connection: "Connection") -> None: ...

    def ended(self, close: Close) -> None: ...

    def failed(self) -> None: ...

    def remove(self, connection: "Connection") -> None: ...


class Connection(Timing):
    """One open socket of one tab, driven by callbacks: an idle one is this object and a transport.

    It is made of layers, each of which knows those below: `reading.Reading`, `writing.Writing`,
    `timing.Timing`; and here is its life, from its opening to its end. They are base classes,
    as parts of their own would be objects of their own, 10,000 times.
    """

    __slots__ = ("_receiver", "id")

    _engine: Engine

    def __init__(self, transport: asyncio.Transport, engine: Engine) -> None:
        super().__init__(transport, engine)
        self.id = ConnectionId(secrets.token_hex(8))
        self._receiver: Receiver = _NOBODY

    def open(self, receiver: Receiver) -> None:
        """Let it carry messages; it calls nobody before."""
        self._receiver = receiver
        self._engine.add(self)
        self.transport.set_protocol(self)

    # For the rooms above, besides what the layers offer.

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something for this connection; it must end soon after ``is_open`` has turned."""
        self._engine.start(self, work)

    def begin_work(self) -> None:
        """Say that something is under way though nothing runs; a drain waits for its end."""
        self._engine.begin_work()

    def end_work(self) -> None:
        self._engine.end_work()

    def close(self, reason: EndReason) -> None:
        """End the connection once what is due has left; the first reason counts."""
        if self.is_open:
            self._end(reason)

    def cut(self, reason: EndReason) -> None:
        """End the connection now, and send nothing more of what is due.

        A stalled peer is aborted without a close frame.
        """
        if not self.is_open:
            return
        if self.due is STALLED:
            self.closing = reason
            self.transport.abort()
        else:
            self.due = None
            self.close(reason)

    def abandon(self, error: Exception, event: str) -> None:
        """End the connection, since something that was done for it raised.

        That costs this connection and no other: whoever has others to serve catches what is
        raised for one, and calls this.

        Args:
            event: What to call it in the log.
        """
        log.error(event, connection_id=self.id, exc_info=error)
        self._engine.failed()
        if self.is_open:
            self.close(EndReason.INTERNAL_ERROR)
        else:  # its end itself may be what failed
            self.transport.abort()

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._push(data)
        self.write_due()  # much may come in one turn, and its answers are not to pile up

    def eof_received(self) -> None:
        """The peer sends no more: the transport closes itself."""

    def pause_writing(self) -> None:
        self._stall()
        self._start_clock()

    def resume_writing(self) -> None:
        self._go_on()
        self._stop_clock()
        self._release(UNREAD_ANSWERS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(LOST)
        self._stop_reading()
        self._go_on()
        self._engine.remove(self)

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

    # Ending.

    def _end(self, end: EndReason | Close) -> None:
        self.closing = end
        try:
            self.write_due()
            self._send_close(_as_told(end, self._receiver))
        except Exception:  # it is the last resort of all who fail above, and must not fail too
            log.exception("goodbye_failed", connection_id=self.id)
            self.transport.abort()
        self._release(COMMANDS_WAIT | UNREAD_ANSWERS)

    def _end_by_peer(self, close: Close) -> None:
        self._stop_reading()
        if self.is_open:
            self.write_due()
            self._send_close(close)
        self.transport.close()  # once all has left that is due
        self._lose(close)

    def _send_close(self, close: Close) -> None:
        self.due = NOTHING_MORE
        self.transport.write(close_frame(close))
        self._give_up_after(self._engine.limits.close_seconds)

    def _lose(self, close: Close) -> None:
        """Say that it is over as soon as it is known, though the socket may have to flush."""
        if self.is_lost:
            return
        self.is_lost = True
        self.due = NOTHING_MORE
        receiver, self._receiver = self._receiver, _NOBODY
        if self.closing is not None:
            close = _as_told(self.closing, receiver)
        self._engine.ended(close)
        try:
            receiver.lost(close)
        except Exception as error:
            self.abandon(error, "receiver_failed")


def _as_told(end: EndReason | Close, receiver: Receiver) -> Close:
    return end if isinstance(end, Close) else receiver.close_codes[end]


class _Nobody:
    """Above a connection that is not open yet, or over."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = {}

    def received(self, message: str | bytes) -> None: ...

    def lost(self, close: Close) -> None: ...


_NOBODY = _Nobody()
