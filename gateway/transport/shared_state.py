"""What all connections of one process share: limits, counts, and work that a drain waits for."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.transport.coalescer import WriteCoalescer
from gateway.transport.frames import Close

C = TypeVar("C", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What connections may cost, and how long they may take; units are in the names.

    The settings have the defaults of all but the last two.
    """

    max_message_bytes: int
    """Of one message of a peer; a longer one ends the connection with 1009."""
    total_unfinished_bytes: int
    """Of messages that are not whole yet, on all connections; with more, the oldest ends."""
    message_seconds: float
    """From the first byte of a message that comes in pieces until it is whole."""
    bare_frames_per_second: int
    """Of a peer: pings, pongs, parts of messages, and pieces of frames of a few bytes."""
    max_pending_bytes: int
    """Written and not yet taken by the peer; with more, nothing live is written to it."""
    total_pending_bytes: int
    """Of all stalled connections together; with more, nothing live is written to any of them."""
    lag_seconds: float
    """How long a connection may be stalled, or behind, until it is closed."""
    ping_seconds: float
    pong_seconds: float
    """From a ping until something has to come; a silent peer is gone after both, and a sweep."""
    close_seconds: float
    """From a close to the end of the socket, whatever the peer does."""
    drain_seconds: float
    """From the beginning of a drain to its end, whatever the peers do."""
    drain_closes_per_second: int
    """More, if `drain_seconds` would not suffice."""
    stall_bytes: int = 16 * 1024
    """Unsent by the socket; with more, the connection is stalled, and counts for the totals."""
    sweep_seconds: float = 1.0


class Work:
    """The tasks of all connections, and what is under way without a task.

    Without a task is, for example, a publication that the bus has not acknowledged yet.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        """
        Args:
            on_end: Called when a task has ended, and when nothing is under way without one.
        """
        self._on_end = on_end
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = 0

    @property
    def is_done(self) -> bool:
        return not self._tasks and not self._begun

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Let tasks be started inside; those that have not ended at its end are cancelled."""
        async with asyncio.TaskGroup() as self._group:
            try:
                yield
            finally:
                self.cancel()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in a task. It must not raise: the group would end all the others."""
        assert self._group is not None, "connections are open only while the hub works"
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def begin(self) -> None:
        self._begun += 1

    def end(self) -> None:
        self._begun -= 1
        if not self._begun:
            self._on_end()

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._on_end()


class SharedState(Generic[C]):
    """What all connections of one process share; ``C`` is their class, which stands above this."""

    def __init__(
        self, limits: Limits, *, on_closed: Callable[[Close], None], on_failed: Callable[[], None]
    ) -> None:
        """
        Args:
            on_closed: Told how each connection ended, when it is lost.
            on_failed: Told of each connection that ends because something for it raised.
        """
        self.loop = asyncio.get_running_loop()
        """Asked for once: before Python 3.12 that is a system call."""
        self.limits = limits
        self.coalescer = WriteCoalescer(self.loop.call_soon)
        self.changed = asyncio.Event()
        """Set when a connection has come or gone, or work has ended."""
        self.work = Work(on_end=self.changed.set)
        self.connections: dict[C, None] = {}  # a set of as many takes nearly twice the memory
        self.stalled_bytes = 0
        """Unsent on all stalled connections together."""
        self.on_closed = on_closed
        self.on_failed = on_failed

    def add(self, connection: C) -> None:
        self.connections[connection] = None
        self.changed.set()

    def remove(self, connection: C) -> None:
        self.connections.pop(connection, None)
        self.changed.set()
