"""The order in which a follower delivers: every sequence once, ascending. Pure.

Live copies may be lost, repeated, and come ahead of what was lost; what the stream
answers may overlap with them, and steps over sequences that no longer exist.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

M = TypeVar("M")


class Gap(NamedTuple):
    """Sequences that the stream no longer holds and that never came live."""

    first: int
    last: int


class Sequencer(Generic[M]):
    """The position, and the messages that came ahead of it. Iterators must be exhausted."""

    def __init__(self, *, max_held_bytes: int) -> None:
        self.position = 0
        """The last sequence that was delivered or stepped over."""
        self.highest = 0
        """The last sequence that is known to exist."""
        self._max_held_bytes = max_held_bytes
        self._held: dict[int, tuple[M, int]] = {}
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def jump(self, position: int) -> None:
        """Go on after ``position``."""
        self.position = position
        self.highest = max(self.highest, position)
        for sequence in [held for held in self._held if held <= position]:
            self._take(sequence)

    def forget_ahead(self) -> None:
        """Forget what was heard of beyond the position: it is of another epoch."""
        self._drop_held()
        self.highest = self.position

    def hear_of(self, sequence: int) -> None:
        """Note that the stream reaches that far."""
        self.highest = max(self.highest, sequence)

    def is_next(self, sequence: int) -> bool:
        """Whether it is due now; then it counts as delivered."""
        if sequence != self.position + 1:
            return False
        self.position = sequence
        if sequence > self.highest:
            self.highest = sequence
        return True

    def hold(self, sequence: int, message: M, size: int) -> None:
        """Keep a message that came ahead; past the bound drop all, the stream has them."""
        if sequence <= self.position:
            return
        self.highest = max(self.highest, sequence)
        if sequence in self._held:
            return
        if self._held_bytes + size > self._max_held_bytes:
            self._drop_held()
            return
        self._held[sequence] = (message, size)
        self._held_bytes += size

    def due(self) -> Iterator[M]:
        """What was held and follows the position without a hole."""
        while self.position + 1 in self._held:
            self.position += 1
            yield self._take(self.position)

    def first_gap(self, found: Sequence[int]) -> int | None:
        """The first sequence that is missing from the answer, below its end, and isn't held.

        Args:
            found: What the stream holds from the position on, ascending.
        """
        expected = self.position + 1
        for sequence in found:
            while expected < sequence and expected in self._held:
                expected += 1
            if expected < sequence:
                return expected
            expected = max(expected, sequence + 1)
        return None

    def fill(self, sequence: int, message: M) -> Iterator[M | Gap]:
        """What is due, now that the stream holds this message next after the position."""
        if sequence <= self.position:
            return
        yield from self.step_over(sequence - 1)
        self.position = sequence
        self.highest = max(self.highest, sequence)
        if sequence in self._held:
            self._take(sequence)
        yield message
        yield from self.due()

    def step_over(self, last: int) -> Iterator[M | Gap]:
        """What is due, now that the stream holds nothing between the position and ``last``."""
        for sequence in sorted(held for held in self._held if held <= last):
            if self.position + 1 < sequence:
                yield from self._gap(sequence - 1)
            self.position = sequence
            yield self._take(sequence)
        if self.position < last:
            yield from self._gap(last)
        self.highest = max(self.highest, last)

    def _gap(self, last: int) -> Iterator[Gap]:
        gap = Gap(self.position + 1, last)
        self.position = last
        yield gap

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_bytes = 0

    def _take(self, sequence: int) -> M:
        message, size = self._held.pop(sequence)
        self._held_bytes -= size
        return message
