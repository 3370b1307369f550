"""The recent publications of all channels, so that reconnects rarely read the stream. Pure."""

import heapq
import sys
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication

NOTHING = sys.maxsize
"""The floor of a ring without any publication."""


class Ring:
    """The last publications, bounded in number and bytes.

    The ring has every publication above the floor. So a client that has everything up to the
    floor, or more, gets all that it missed from the ring.
    """

    def __init__(self, *, max_count: int, max_bytes: int) -> None:
        self.floor = NOTHING
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._bytes = 0
        self._publications: OrderedDict[int, StoredPublication] = OrderedDict()
        self._offsets: dict[ChannelName, _Offsets] = {}

    def __len__(self) -> int:
        return len(self._publications)

    @property
    def channel_count(self) -> int:
        """How many channels have a publication here."""
        return len(self._offsets)

    @property
    def payload_bytes(self) -> int:
        return self._bytes

    def append(self, publication: StoredPublication) -> None:
        """Add the publication that comes next in the stream after the last one."""
        offset, channel, payload, _time = publication
        if self.floor == NOTHING:
            self.floor = offset - 1
        self._publications[offset] = publication
        self._bytes += len(payload)
        offsets = self._offsets.get(channel)
        if offsets is None:
            offsets = self._offsets[channel] = _Offsets()
        offsets.append(offset)
        while len(self._publications) > self._max_count or self._bytes > self._max_bytes:
            self._evict()

    def extend_back(self, floor: int, publications: list[StoredPublication]) -> bool:
        """Add what comes after another floor and up to here, as far as there is room.

        An empty ring begins behind the offset up to which it would have heard.

        Args:
            publications: All of them, ascending.

        Returns:
            Whether there was room for all.
        """
        added: dict[ChannelName, list[int]] = {}
        self.floor = floor
        for publication in reversed(publications):
            offset, channel, payload, _time = publication
            if len(self) == self._max_count or self._bytes + len(payload) > self._max_bytes:
                self.floor = offset
                break
            self._publications[offset] = publication
            self._publications.move_to_end(offset, last=False)
            self._bytes += len(payload)
            added.setdefault(channel, []).append(offset)
        for channel, offsets in added.items():
            self._offsets.setdefault(channel, _Offsets()).put_first(offsets[::-1])
        return self.floor == floor

    def clear(self) -> None:
        """Drop everything, because the next publication may not follow the last one."""
        self.floor = NOTHING
        self._bytes = 0
        self._publications.clear()
        self._offsets.clear()

    def get(self, offset: int) -> StoredPublication | None:
        return self._publications.get(offset)

    def after(self, channels: Iterable[ChannelName], offset: int) -> Iterator[StoredPublication]:
        """The channels' publications after an offset, ascending; valid until the ring changes."""
        runs = [
            found.after(offset)
            for channel in set(channels)
            if (found := self._offsets.get(channel)) is not None
        ]
        merged = heapq.merge(*runs) if len(runs) > 1 else chain.from_iterable(runs)
        return map(self._publications.__getitem__, merged)

    def all_after(self, channel: ChannelName, offset: int) -> list[StoredPublication]:
        """As `after`, of one channel, at once."""
        offsets = self._offsets.get(channel)
        if offsets is None:
            return []
        return [*map(self._publications.__getitem__, offsets.all_after(offset))]

    def before(self, channel: ChannelName, offset: int) -> StoredPublication | None:
        """The channel's publication before the one at the offset, if it is kept."""
        offsets = self._offsets.get(channel)
        found = None if offsets is None else offsets.before(offset)
        return None if found is None else self._publications[found]

    def count_after(self, channels: Iterable[ChannelName], offset: int) -> int:
        """How many publications `after` would give."""
        return sum(
            found.count_after(offset)
            for channel in set(channels)
            if (found := self._offsets.get(channel)) is not None
        )

    def offsets(self, channel: ChannelName, after: int, up_to: int) -> list[int]:
        """The channel's offsets after one and up to another, ascending."""
        offsets = self._offsets.get(channel)
        return [] if offsets is None else offsets.between(after, up_to)

    def oldest(self) -> StoredPublication | None:
        """The first of all that are here."""
        return next(iter(self._publications.values()), None)

    def last(
        self, channel: ChannelName, count: int, up_to: int = NOTHING
    ) -> list[StoredPublication] | None:
        """The channel's last publications up to an offset, ascending; None if the ring may lack
        some of them."""
        offsets = self._offsets.get(channel)
        newest = offsets.last(count, up_to) if offsets is not None else []
        if len(newest) < count and self.floor != 0:
            return None
        return [self._publications[offset] for offset in newest]

    def _evict(self) -> None:
        offset, (_offset, channel, payload, _time) = self._publications.popitem(last=False)
        self.floor = offset
        self._bytes -= len(payload)
        offsets = self._offsets[channel]
        if not offsets.drop_first():
            del self._offsets[channel]  # or memory would grow with every new channel


class _Offsets:
    """The offsets of one channel, ascending; dropping the first is amortised O(1)."""

    __slots__ = ("_begin", "_offsets")

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._begin = 0

    def append(self, offset: int) -> None:
        self._offsets.append(offset)

    def put_first(self, offsets: list[int]) -> None:
        self._offsets[: self._begin] = offsets
        self._begin = 0

    def drop_first(self) -> bool:
        """Drop the first offset; return whether any are left."""
        self._begin += 1
        if self._begin * 2 >= len(self._offsets):
            del self._offsets[: self._begin]
            self._begin = 0
        return bool(self._offsets)

    def after(self, offset: int) -> Iterator[int]:
        return map(self._offsets.__getitem__, range(self._index_after(offset), len(self._offsets)))

    def all_after(self, offset: int) -> list[int]:
        return self._offsets[self._index_after(offset) :]

    def count_after(self, offset: int) -> int:
        return len(self._offsets) - self._index_after(offset)

    def before(self, offset: int) -> int | None:
        index = bisect_left(self._offsets, offset, lo=self._begin) - 1
        return self._offsets[index] if index >= self._begin else None

    def between(self, after: int, up_to: int) -> list[int]:
        return self._offsets[self._index_after(after) : self._index_after(up_to)]

    def last(self, count: int, up_to: int) -> list[int]:
        end = self._index_after(up_to)
        return self._offsets[max(self._begin, end - count) : end]

    def _index_after(self, offset: int) -> int:
        return bisect_right(self._offsets, offset, lo=self._begin)
