"""Frames on their way out: what is sent within one turn of the loop leaves in one write.

A publication goes to thousands of connections, and in a burst many publications go to the
same thousands. So what is pending for a connection is one reference to a batch of frames. All
that are to be sent the same frames share it, and it is joined once for all of them.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from gateway.transport.frames import Frame


class FrameBatch:
    """Frames that leave together, shared by all connections that are sent the same."""

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
"""Pending for a connection that is ending: it gets no more."""

STALLED = FrameBatch(None, Frame(b""))
"""Pending for a connection whose socket takes nothing now: every frame for it is judged."""

_NOTHING_YET = FrameBatch(None, Frame(b""))


class Socket(Protocol):
    """Where a connection's frames go: an `asyncio.Transport`, as far as they are concerned."""

    def write(self, data: bytes) -> None: ...


class Sink(Protocol):
    """A connection, as far as its frames are concerned."""

    pending: FrameBatch | None

    @property
    def transport(self) -> Socket: ...

    def abandon(self, error: Exception, event: str) -> None:
        """Writing raised: that costs this connection and no other."""


class Listener(Protocol):
    """Somebody who is to be sent what has an offset from some point on."""

    @property
    def connection(self) -> Sink: ...

    @property
    def live_from(self) -> int: ...


L = TypeVar("L", bound=Listener)


class WriteCoalescer:
    """What is pending for all connections of one loop, until the turn ends."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        """
        Args:
            schedule: Calls what it is given at the end of the turn.
        """
        self._schedule = schedule
        self._sinks: list[Sink] = []

    def queue(self, sink: Sink, frame: Frame) -> None:
        """Send one more frame to a sink that isn't stalled."""
        if sink.pending is None:
            self._note(sink)
        sink.pending = FrameBatch(sink.pending, frame)

    def fan_out(self, frame: Frame, listeners: Iterable[L], offset: int) -> tuple[int, list[L]]:
        """Send one more frame to all listeners that are live at the offset.

        This is the innermost loop of the gateway: it runs once for each delivery.

        Returns:
            How many are, and those besides whose connections are stalled.
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
        """Write what is pending, as `write_pending` does, spelled out: nearly all share a batch.

        Keep the gap between writes short: an idle reader costs a wake-up.
        """
        sinks, self._sinks = self._sinks, []
        last, data = _NOTHING_YET, b""
        for sink in sinks:
            try:
                pending = sink.pending
                if pending is not last:
                    if pending is None or pending is STALLED or pending is NOTHING_MORE:
                        continue  # written or ended within the turn
                    last, data = pending, pending.joined()
                sink.pending = None
                sink.transport.write(data)
            except Exception as error:
                last = _NOTHING_YET
                sink.abandon(error, "write_failed")  # there is a hole in what it was sent
