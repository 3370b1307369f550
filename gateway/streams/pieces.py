"""What is known of one channel's history: pieces of it without a hole. Pure."""

from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter

from gateway.streams.history import HistoryPage
from hubbub_client.contracts.publications import StoredPublication

_OVERHEAD_BYTES = 400
"""Of a publication in memory, beside its payload."""


@dataclass(frozen=True, slots=True)
class Piece:
    """All that the channel has after one offset and up to another."""

    after: int
    through: int
    publications: list[StoredPublication]
    beyond: int = 0
    """How many come behind it, as far as was known when it was read."""
    is_first: bool = False
    """Whether the stream held none of the channel before it."""

    @property
    def bytes(self) -> int:
        payloads = sum(len(each.payload) for each in self.publications)
        return payloads + _OVERHEAD_BYTES * (len(self.publications) + 1)

    def from_offset(self, first: int) -> "Piece":
        """The part of it from an offset on."""
        if first - 1 <= self.after:
            return self
        rest = [each for each in self.publications if each.offset >= first]
        return Piece(first - 1, self.through, rest, self.beyond, is_first=self.is_first)

    def joined(self, later: "Piece") -> "Piece":
        """With one that begins within it, or right behind it."""
        if later.through <= self.through:
            return self
        before = [each for each in self.publications if each.offset <= later.after]
        return Piece(
            self.after,
            later.through,
            before + later.publications,
            later.beyond,
            is_first=self.is_first or later.is_first,
        )


class Pieces:
    """Of one channel: ascending, with a gap between any two."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []

    @property
    def bytes(self) -> int:
        """What they take in memory, about."""
        return _OVERHEAD_BYTES + sum(piece.bytes for piece in self._pieces)

    @property
    def end(self) -> int:
        """The offset up to which the last piece reaches; 0 if there is none."""
        return self._pieces[-1].through if self._pieces else 0

    def know_next(self, after: int) -> bool:
        """Whether it is known what comes next after the offset."""
        index = self._index(after)
        return index >= 0 and self._pieces[index].through > after

    def page(self, after: int, up_to: int) -> HistoryPage | None:
        """What comes after the offset, as far as it is known; None if the next is unknown."""
        if not self.know_next(after):
            return None
        piece = self._pieces[self._index(after)]
        through = min(piece.through, up_to)
        found = _between(piece.publications, after, through)
        behind = _count_after(piece.publications, through)
        return HistoryPage(found, through, beyond=behind + piece.beyond)

    def last(self, count: int, up_to: int) -> list[StoredPublication] | None:
        """The last publications up to an offset; None if that is not known."""
        index = self._index(up_to - 1)
        if index < 0 or self._pieces[index].through < up_to:
            return None
        piece = self._pieces[index]
        found = _between(piece.publications, piece.after, up_to)
        return found[-count:] if len(found) >= count or piece.is_first else None

    def next_known(self, offset: int) -> int | None:
        """Where the first piece begins that comes after the offset."""
        index = self._index(offset) + 1
        return self._pieces[index].after if index < len(self._pieces) else None

    def span_of(self, count: int) -> int:
        """In how many offsets the channel has so many publications, going by what is known."""
        known = sum(len(piece.publications) for piece in self._pieces)
        span = sum(piece.through - piece.after for piece in self._pieces)
        return span * count // max(known, 1)

    def add(self, piece: Piece) -> None:
        joined: list[Piece] = []
        for each in sorted((*self._pieces, piece), key=attrgetter("after")):
            if joined and each.after <= joined[-1].through:
                joined[-1] = joined[-1].joined(each)
            else:
                joined.append(each)
        self._pieces = joined

    def forget_all_but(self, piece: Piece) -> None:
        self._pieces = [piece]

    def _index(self, offset: int) -> int:
        """The last piece that begins at or before the offset; -1 if there is none."""
        return bisect_right(self._pieces, offset, key=attrgetter("after")) - 1


def _between(
    publications: list[StoredPublication], after: int, up_to: int
) -> list[StoredPublication]:
    begin = bisect_right(publications, after, key=attrgetter("offset"))
    return publications[begin : len(publications) - _count_after(publications, up_to)]


def _count_after(publications: list[StoredPublication], offset: int) -> int:
    return len(publications) - bisect_right(publications, offset, key=attrgetter("offset"))
