"""The half of a connection that writes: what it is due, and what its socket doesn't take."""

import asyncio

from gateway.transport.coalescer import NOTHING_MORE, STALLED, FrameBatch
from gateway.transport.frames import Frame
from gateway.transport.reading import UNREAD_ANSWERS, Reading
from gateway.transport.resources import Resources


class Writing(Reading):
    """Hands over what is due at the end of each turn, and counts what stays with us.

    When the socket takes no more than `Limits.stall_bytes`, the connection is *stalled*: what
    can be had again later is then offered, not sent, and whoever is above may have to fetch it
    when the socket has drained.
    """

    __slots__ = ("_counted_bytes", "_drained", "due")

    def __init__(self, transport: asyncio.Transport, engine: Resources) -> None:
        super().__init__(transport, engine)
        self.due: FrameBatch | None = None
        self._counted_bytes = 0
        self._drained: asyncio.Future[None] | None = None
        transport.set_write_buffer_limits(high=engine.limits.stall_bytes)

    # For the rooms above.

    @property
    def is_stalled(self) -> bool:
        """Whether the socket takes nothing now."""
        return self.due is STALLED

    def send(self, frame: Frame) -> None:
        """Send a frame that is sent but once, such as an answer; never waits.

        A peer that leaves too many of them unread is not read from, so it gets no more answers.
        """
        due = self.due
        if due is STALLED:
            self.transport.write(frame)
            self._count_unsent()
        elif due is not NOTHING_MORE:
            self._engine.outgoing.queue(self, frame)

    def offer(self, frame: Frame) -> bool:
        """Send a frame on a stalled connection if there is room for it; return whether there is."""
        engine, limits = self._engine, self._engine.limits
        size = self.transport.get_write_buffer_size() + len(frame)
        total = engine.stalled_bytes - self._counted_bytes + size
        if size > limits.max_pending_bytes or total > limits.total_pending_bytes:
            return False
        self.transport.write(frame)
        self._count(size)
        return True

    async def until_drained(self) -> None:
        """Hand over what is due, and wait until the socket takes more, or it is over.

        Bounded by `lag_seconds`. Others have their turn meanwhile in any case.
        """
        self.write_due()
        await asyncio.sleep(0)
        while self.due is STALLED:
            if self._drained is None or self._drained.done():
                self._drained = self._engine.loop.create_future()
            await asyncio.shield(self._drained)  # others wait for it too

    # For the engine.

    def write_due(self) -> None:
        """Hand what is due to the socket."""
        run = self.due
        if run is None or run is STALLED or run is NOTHING_MORE:
            return
        self.due = None
        self.transport.write(run.joined())

    def abort(self) -> None:
        """Drop the connection without a word."""
        self.transport.abort()

    # Within.

    def _stall(self) -> None:
        if self.due is not NOTHING_MORE:
            self.write_due()
            self.due = STALLED
        self._count_unsent()

    def _go_on(self) -> None:
        if self.due is STALLED:
            self.due = None
        self._count(0)
        self._wake()

    def _count_unsent(self) -> None:
        engine, unsent = self._engine, self.transport.get_write_buffer_size()
        self._count(unsent)
        limits = engine.limits
        are_too_many = engine.stalled_bytes > limits.total_pending_bytes  # of all together
        if unsent > limits.max_pending_bytes or (unsent and are_too_many):
            self._hold(UNREAD_ANSWERS)

    def _count(self, pending_bytes: int) -> None:
        self._engine.stalled_bytes += pending_bytes - self._counted_bytes
        self._counted_bytes = pending_bytes

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
