"""Whose bytes are read next, when more has come than is read at once."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

FRAMES_AT_ONCE = 8
"""Of one connection; hardly anybody sends so many together."""
_READERS_A_TURN = 8


class Reader(Protocol):
    """A connection, as far as its turn is concerned."""

    def read_on(self) -> None:
        """Read `FRAMES_AT_ONCE`, and wait again if there are more."""

    def abandon(self, error: Exception, event: str) -> None:
        """Reading raised: that costs this connection and no other."""


class Turns:
    """All who have more to be read, in a queue; each turn of the loop serves a few of them.

    Megabytes of the smallest frames may lie ready at each of thousands of connections. So a
    turn of the loop would last as long as they like, and everybody else wait for its end. Whoever
    waits here is brought nothing more by the loop meanwhile; whoever sends little never does.
    """

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        """
        Args:
            schedule: Calls what it is given in the next turn.
        """
        self._schedule = schedule
        self._waiting: deque[Reader] = deque()

    def wait(self, reader: Reader) -> None:
        """Have it read on when the others have had their turn; once, until it does."""
        if not self._waiting:
            self._schedule(self._serve)
        self._waiting.append(reader)

    def _serve(self) -> None:
        waiting = self._waiting
        readers = [waiting.popleft() for _ in range(min(len(waiting), _READERS_A_TURN))]
        if waiting:
            self._schedule(self._serve)
        for reader in readers:
            try:
                reader.read_on()
            except Exception as error:
                reader.abandon(error, "reading_failed")
