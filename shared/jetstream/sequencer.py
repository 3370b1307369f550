"""The order in which a follower delivers: every sequence once, ascending. Pure.

Live copies may be lost or repeated, or come before what was lost. What is read from the stream
may overlap with them, and lacks the sequences that no longer exist.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

M = TypeVar("M")


class Gap(NamedTuple):
    """Sequences that the stream no longer holds and that did not come live."""

    first: int
    last: int


class Sequencer(Generic[M]):
    """The position, and messages that came too early. Iterators must be exhausted."""

    def __init__(self, *, max_held_bytes: int) -> None:
        self.position = 0
        """The last sequence that was delivered or skipped."""
        self.highest = 0
        """The last sequence that is known to exist."""
        self._max_held_bytes = max_held_bytes
        self._held: dict[int, tuple[M, int]] = {}
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def jump(self, position: int) -> None:
        """Continue after ``position``."""
        self.position = position
        self.highest = max(self.highest, position)
        for sequence in [held for held in self._held if held <= position]:
            self._take(sequence)

    def forget_ahead(self) -> None:
        """Forget all beyond the position: it belongs to another epoch."""
        self._drop_held()
        self.highest = self.position

    def note_exists(self, sequence: int) -> None:
        """Note that the stream reaches to this sequence."""
        self.highest = max(self.highest, sequence)

    def is_next(self, sequence: int) -> bool:
        """Whether it is due now; if so, it counts as delivered."""
        if sequence != self.position + 1:
            return False
        self.position = sequence
        if sequence > self.highest:
            self.highest = sequence
        return True

    def hold(self, sequence: int, message: M, size: int) -> None:
        """Keep a message that came too early. Past the limit drop all: the stream has them."""
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
        """The held messages that follow the position without a hole."""
        while self.position + 1 in self._held:
            self.position += 1
            yield self._take(self.position)

    def first_gap(self, found: Sequence[int]) -> int | None:
        """The first sequence before the answer's end that is neither in it nor held.

        Args:
            found: The sequences that the stream holds after the position, ascending.
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
        """What is due, if this is the next message that the stream holds after the position."""
        if sequence <= self.position:
            return
        yield from self.skip_to(sequence - 1)
        self.position = sequence
        self.highest = max(self.highest, sequence)
        if sequence in self._held:
            self._take(sequence)
        yield message
        yield from self.due()

    def skip_to(self, last: int) -> Iterator[M | Gap]:
        """What is due, if the stream holds nothing between the position and ``last``."""
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
