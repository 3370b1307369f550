"""A transport that writes to a list, and stalls when a test says so."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, cast

from gateway.errors import EndReason
from gateway.transport.coalescer import WriteCoalescer
from gateway.transport.connection import Connection
from gateway.transport.frames import Close
from gateway.transport.limits import Limits
from gateway.transport.turns import Turns
from gateway.transport.unfinished import Unfinished
from gateway.transport.websocket import WebSocketConnection

CLOSE_CODES: Mapping[EndReason, Close] = {
    reason: Close(4000 + number, reason.value) for number, reason in enumerate(EndReason)
}
"""Those of no protocol: the transport has no codes of its own for any reason."""


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


class AnEngine:
    """What connections share, driven by hand."""

    def __init__(self, limits: Limits) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.turn: list[Callable[[], None]] = []
        self.outgoing = WriteCoalescer(self.turn.append)
        self.turns = Turns(self.loop.call_soon)
        self.unfinished = Unfinished(limits)
        self.stalled_bytes = 0
        self.under_way = 0
        self.ends: list[Close] = []
        self.failures = 0
        self.connections: set[Connection] = set()

    def start(self, connection: Connection, work: Coroutine[Any, Any, None]) -> None:
        raise NotImplementedError

    def begin_work(self) -> None:
        self.under_way += 1

    def end_work(self) -> None:
        self.under_way -= 1

    def add(self, connection: Connection) -> None:
        self.connections.add(connection)

    def ended(self, close: Close) -> None:
        self.ends.append(close)

    def failed(self) -> None:
        self.failures += 1

    def remove(self, connection: Connection) -> None:
        self.connections.remove(connection)

    def end_turn(self) -> None:
        due = list(self.turn)
        self.turn.clear()
        for flush in due:
            flush()


class AReceiver:
    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.ended: Close | None = None

    def received(self, message: str | bytes) -> None:
        self.messages.append(message)

    def lost(self, close: Close) -> None:
        assert self.ended is None, "said once"
        self.ended = close


class Wire:
    """One connection between a receiver and a transport, and a hand on both ends."""

    def __init__(self, engine: AnEngine) -> None:
        self.engine = engine
        self.transport = ATransport()
        self.connection = WebSocketConnection(cast(asyncio.Transport, self.transport), engine)
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
        self.engine.end_turn()
        return b"".join(self.transport.written)


def a_wire(engine: AnEngine | None = None, **limits: float) -> Wire:
    return Wire(engine or AnEngine(Limits(**limits)))  # type: ignore[arg-type]
