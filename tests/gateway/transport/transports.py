"""A transport that writes to a list, and stalls when a test says so."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar, cast

from gateway.errors import EndReason
from gateway.transport.coalescer import WriteCoalescer
from gateway.transport.frames import Close, Frame
from gateway.transport.hub import Hub
from gateway.transport.shared_state import Limits
from gateway.transport.websocket import WebSocketConnection

CLOSE_CODES: Mapping[EndReason, Close] = {
    reason: Close(4000 + number, reason.value) for number, reason in enumerate(EndReason)
}
"""Of no protocol: the transport itself has no code for any reason."""


_LIMITS = Limits(
    max_message_bytes=64 * 1024,
    total_unfinished_bytes=64 * 1024 * 1024,
    message_seconds=30,
    bare_frames_per_second=200,
    max_pending_bytes=256 * 1024,
    total_pending_bytes=256 * 1024 * 1024,
    lag_seconds=15,
    ping_seconds=20,
    pong_seconds=13,
    close_seconds=5,
    drain_seconds=3,
    drain_closes_per_second=500,
)


def some_limits(**changed: float) -> Limits:
    """Limits that no test reaches, but for those that it changes."""
    return replace(_LIMITS, **changed)  # type: ignore[arg-type]


class ATransport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.fails = False
        self.is_reading = True
        self.aborted = False
        self.closed = False
        self.has_written_eof = False
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes) -> None:
        assert not self.aborted
        if self.fails:
            raise RuntimeError("a transport that fails")
        self.written.append(data)
        if self.unsent:
            self.unsent += len(data)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_written_eof = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class AHub(Hub):
    """A hub whose connections write when a test says that the turn has ended."""

    def __init__(self, **limits: float) -> None:
        self.ends: list[Close] = []
        self.failures = 0
        super().__init__(
            some_limits(**limits), on_closed=self.ends.append, on_failed=self._count_failure
        )
        self._turn: list[Callable[[], None]] = []
        self.shared.coalescer = WriteCoalescer(self._turn.append)

    def end_turn(self) -> None:
        due = list(self._turn)
        self._turn.clear()
        for flush in due:
            flush()

    def _count_failure(self) -> None:
        self.failures += 1


class AReceiver:
    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES
    ping: ClassVar[Frame | None] = None

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.ended: Close | None = None

    def received(self, message: str | bytes) -> None:
        self.messages.append(message)

    def farewell(self, close: Close) -> Frame | None:
        return None

    def lost(self, close: Close) -> None:
        assert self.ended is None, "said once"
        self.ended = close


def a_connection(
    hub: Hub, transport: ATransport, kind: type[WebSocketConnection] = WebSocketConnection
) -> WebSocketConnection:
    """One that is not open yet."""
    return kind(cast(asyncio.Transport, transport), hub.shared, hub.reading)


class Wire:
    """One connection between a receiver and a transport, and a hand on both ends."""

    def __init__(self, hub: AHub, kind: type[WebSocketConnection]) -> None:
        self.hub = hub
        self.transport = ATransport()
        self.connection = a_connection(hub, self.transport, kind)
        self.receiver = AReceiver()
        self.connection.open(self.receiver)

    def stall(self, unsent: int = 1) -> None:
        self.transport.unsent = unsent
        self.connection.pause_writing()

    def drain(self) -> None:
        self.transport.unsent = 0
        self.connection.resume_writing()

    def lose(self) -> None:
        self.connection.connection_lost(None)

    @property
    def sent(self) -> bytes:
        self.hub.end_turn()
        return b"".join(self.transport.written)


def a_wire(
    hub: AHub | None = None,
    kind: type[WebSocketConnection] = WebSocketConnection,
    **limits: float,
) -> Wire:
    return Wire(AHub(**limits) if hub is None else hub, kind)
