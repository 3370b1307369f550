"""The commands of one connection, executed one after another."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.channels.connection import Connection
from gateway.session.rate import CommandRate, RateLimits

C = TypeVar("C")

_BEFORE_OPEN = 4
"""Commands that may wait until it is known whose they are; each may have 64 KiB."""

Execute = Callable[[C], bool]
"""Begins a command. Returns whether it is under way: then `CommandQueue.done` is to be called."""


class CommandQueue(Generic[C]):
    """Lets a command wait for the one before it, and the peer while too many wait.

    Publications of one connection are not pipelined, since retries would reorder them. While
    nothing is under way a command is executed where it comes, and costs neither a task nor a
    queue. While the peer leaves too many replies unread nothing is executed: there may be a
    hundred commands in one message, with a reply of a mebibyte to each. It is told with each call
    who executes, so that it refers to nobody above it.
    """

    __slots__ = ("_connection", "_is_busy", "_is_open", "_max_waiting", "_waiting", "rate")

    def __init__(self, connection: Connection, limits: RateLimits, *, max_waiting: int) -> None:
        self.rate = CommandRate(limits)
        self._connection = connection
        self._max_waiting = max_waiting
        self._is_open = False
        self._is_busy = False
        self._waiting: deque[C] | None = None
        """Made when something has to wait, thrown away when nothing has."""

    def open(self, execute: Execute[C]) -> None:
        """Begin to execute what waits, and read on."""
        self._is_open = True
        if self._waiting and _BEFORE_OPEN <= len(self._waiting) < self._max_waiting:
            self._is_busy = True  # for what comes while reading is resumed
            self._connection.resume_reading()
            self._is_busy = False
        self._work_on(execute)

    def put(self, command: C, execute: Execute[C], *, may_overtake: bool = False) -> None:
        """Execute a command in its turn; out of it if it may overtake those that wait."""
        if not self._is_open or (self._is_busy and not may_overtake):
            self._wait(command)
        elif self._connection.leaves_replies_unread:
            self._wait(command)
            self._work_on(execute)
        else:
            self._is_busy = execute(command) or self._is_busy

    def done(self, execute: Execute[C]) -> None:
        """What was under way is done: execute what waited for it."""
        self._is_busy = False
        self._work_on(execute)

    def _wait(self, command: C) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(command)
        if len(self._waiting) >= self._most_waiting:
            self._connection.pause_reading()

    @property
    def _most_waiting(self) -> int:
        return self._max_waiting if self._is_open else min(_BEFORE_OPEN, self._max_waiting)

    def _work_on(self, execute: Execute[C]) -> None:
        # What came before the peer left still counts; what came before we closed doesn't.
        while self._waiting and not self._is_busy and self._connection.closing is None:
            if self._connection.leaves_replies_unread:
                self._is_busy = True
                self._connection.start(self._work_on_once_read(execute))
                return
            command = self._waiting.popleft()
            self._is_busy = True  # for what comes while reading is resumed
            if len(self._waiting) == self._max_waiting - 1:
                self._connection.resume_reading()
            self._is_busy = execute(command)
        if not self._is_busy:
            self._waiting = None

    async def _work_on_once_read(self, execute: Execute[C]) -> None:
        await self._connection.until_drained()
        self.done(execute)
