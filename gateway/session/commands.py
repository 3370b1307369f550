"""The commands of one connection: executed one after another, and not without bound."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.engine.connection import Connection

C = TypeVar("C")


class CommandQueue(Generic[C]):
    """Holds what has come and isn't done; there is a task only while there is something to do."""

    def __init__(
        self,
        connection: Connection,
        execute: Callable[[C], Awaitable[None]],
        *,
        max_waiting: int,
        on_done: Callable[[], None],
    ) -> None:
        """``on_done`` is called when all that came is done: it may be thrown away then."""
        self._connection = connection
        self._execute = execute
        self._max_waiting = max_waiting
        self._on_done = on_done
        self._waiting: deque[C] = deque()
        self._is_open = False
        self._is_working = False

    def open(self) -> None:
        """Begin to execute."""
        self._is_open = True
        self._work_on()

    def put(self, command: C) -> None:
        """Execute the command in its turn; the peer waits while too many wait."""
        self._waiting.append(command)
        if len(self._waiting) >= self._max_waiting:
            self._connection.pause_reading()
        self._work_on()

    def _work_on(self) -> None:
        if self._is_open and self._waiting and not self._is_working:
            self._is_working = True
            self._connection.start(self._work())

    async def _work(self) -> None:
        # What came before the peer left still counts; what came before we closed does not.
        while self._waiting and self._connection.closing is None:
            command = self._waiting.popleft()
            if len(self._waiting) == self._max_waiting - 1:
                self._connection.resume_reading()
            await self._execute(command)
        self._is_working = False
        self._on_done()
