"""What is sent within one turn of the loop leaves in one write.

A publication goes to thousands of connections, and in a burst many publications go to the
same thousands. So what is pending for a connection is one reference to a batch of frames. All
connections that are sent the same frames share a batch, and it is joined once for all of them.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from gateway.transport.frames import Frame


class FrameBatch:
    """Frames that leave together, shared by all connections that are sent the same.

    It is a linked list: a batch with one more frame refers to the batch before it.
    """

    __slots__ = ("_before", "_frame", "_joined")

    def __init__(self, before: "FrameBatch | None", frame: Frame) -> None:
        self._before = before
        self._frame = frame
        self._joined: bytes | None = frame if before is None else None

    def joined(self) -> bytes:
        if self._joined is None:
            frames = []
            batch: FrameBatch | None = self
            while batch is not None:
                frames.append(batch._frame)
                batch = batch._before
            self._joined = b"".join(reversed(frames))
        return self._joined


NOTHING_MORE = FrameBatch(None, Frame(b""))
"""Pending for a connection that is ending: nothing more is sent on it."""

STALLED = FrameBatch(None, Frame(b""))
"""Pending for a connection whose socket takes nothing now: each frame is sent or offered alone."""

_NOTHING_YET = FrameBatch(None, Frame(b""))


class Sink(Protocol):
    """What frames are written to: a connection."""

    pending: FrameBatch | None

    @property
    def transport(self) -> asyncio.WriteTransport: ...

    def abandon(self, error: Exception, event: str) -> None:
        """Writing raised: that costs this connection and no other."""


class Listener(Protocol):
    """A subscription of the session above: to which connection, and live from which offset."""

    @property
    def connection(self) -> Sink: ...

    @property
    def live_from(self) -> int: ...


L = TypeVar("L", bound=Listener)


class WriteCoalescer:
    """Collects what is sent on all connections of one loop, and writes it when the turn ends."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        """
        Args:
            schedule: Calls what it is given at the end of the turn.
        """
        self._schedule = schedule
        self._sinks: list[Sink] = []

    def queue(self, sink: Sink, frame: Frame) -> None:
        """Send a frame to a sink that is neither stalled nor ending."""
        if sink.pending is None:
            self._note(sink)
        sink.pending = FrameBatch(sink.pending, frame)

    def fan_out(self, frame: Frame, listeners: Iterable[L], offset: int) -> tuple[int, list[L]]:
        """Send a frame to all listeners that are live at the offset, and not stalled or ending.

        This is the innermost loop of the gateway: it runs once for each delivery.

        Returns:
            To how many it is sent; and those live listeners whose connections are stalled.
        """
        stalled: list[L] = []
        count = 0
        alone = FrameBatch(None, frame)
        before: FrameBatch | None = None
        after = alone
        successors: dict[FrameBatch, FrameBatch] = {}
        first = not self._sinks
        note = self._sinks.append
        for listener in listeners:
            if offset < listener.live_from:
                continue
            sink = listener.connection
            pending = sink.pending
            if pending is None:
                sink.pending = alone
                note(sink)
            elif pending is before:
                sink.pending = after
            elif pending is STALLED:
                stalled.append(listener)
                continue
            elif pending is NOTHING_MORE:
                continue
            else:
                before = pending
                after = successors.get(pending) or successors.setdefault(
                    pending, FrameBatch(pending, frame)
                )
                sink.pending = after
            count += 1
        if first and self._sinks:
            self._schedule(self._flush)
        return count, stalled

    def _note(self, sink: Sink) -> None:
        if not self._sinks:
            self._schedule(self._flush)
        self._sinks.append(sink)

    def _flush(self) -> None:
        """Write what is pending for each sink, as `Connection.write_pending` does, but in line.

        Most sinks share a batch. Keep the gap between writes short: an idle reader costs a wake-up.
        """
        sinks, self._sinks = self._sinks, []
        last, data = _NOTHING_YET, b""
        for sink in sinks:
            try:
                pending = sink.pending
                if pending is not last:
                    if pending is None or pending is STALLED or pending is NOTHING_MORE:
                        continue  # it was written, stalled or ended within the turn
                    last, data = pending, pending.joined()
                sink.pending = None
                sink.transport.write(data)
            except Exception as error:
                last = _NOTHING_YET
                sink.abandon(error, "write_failed")  # frames are missing in what it was sent
