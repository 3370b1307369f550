"""Recent publications of all channels, so that few who reconnect need the stream. Pure."""

import heapq
import sys
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain

from shared.contracts.ids import ChannelName
from shared.contracts.publications import StoredPublication

NOTHING = sys.maxsize
"""The floor of a ring that has seen nothing yet."""


class Ring:
    """The last publications, bounded in number and bytes.

    All that was ever published with an offset above the floor is here: who has
    everything up to the floor gets the rest from here, and needs nothing else.
    """

    def __init__(self, *, max_count: int, max_bytes: int) -> None:
        self.floor = NOTHING
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[int, StoredPublication] = OrderedDict()
        self._offsets: dict[ChannelName, _Offsets] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def channel_count(self) -> int:
        """Of how many channels something is kept."""
        return len(self._offsets)

    @property
    def payload_bytes(self) -> int:
        return self._bytes

    def append(self, publication: StoredPublication) -> None:
        """Add the next publication of the stream: nothing lies between it and the last one."""
        offset, channel, payload, _time = publication
        if self.floor == NOTHING:
            self.floor = offset - 1
        self._kept[offset] = publication
        self._bytes += len(payload)
        offsets = self._offsets.get(channel)
        if offsets is None:
            offsets = self._offsets[channel] = _Offsets()
        offsets.append(offset)
        while len(self._kept) > self._max_count or self._bytes > self._max_bytes:
            self._evict()

    def clear(self) -> None:
        """Forget everything, since the next publication may not follow the last one."""
        self.floor = NOTHING
        self._bytes = 0
        self._kept.clear()
        self._offsets.clear()

    def get(self, offset: int) -> StoredPublication | None:
        return self._kept.get(offset)

    def after(self, channels: Iterable[ChannelName], offset: int) -> Iterator[StoredPublication]:
        """What the channels have after an offset, ascending; read it before the ring changes."""
        runs = [
            found.after(offset)
            for channel in set(channels)
            if (found := self._offsets.get(channel)) is not None
        ]
        merged = chain.from_iterable(runs) if len(runs) == 1 else heapq.merge(*runs)
        return map(self._kept.__getitem__, merged)

    def count_after(self, channels: Iterable[ChannelName], offset: int) -> int:
        """How many `after` would give."""
        return sum(
            found.count_after(offset)
            for channel in set(channels)
            if (found := self._offsets.get(channel)) is not None
        )

    def last(self, channel: ChannelName, count: int) -> list[StoredPublication] | None:
        """The channel's last ones, ascending; None if the stream may hold more of them."""
        offsets = self._offsets.get(channel)
        newest = offsets.last(count) if offsets is not None else []
        if len(newest) < count and self.floor != 0:
            return None
        return [self._kept[offset] for offset in newest]

    def _evict(self) -> None:
        offset, (_offset, channel, payload, _time) = self._kept.popitem(last=False)
        self.floor = offset
        self._bytes -= len(payload)
        offsets = self._offsets[channel]
        if not offsets.drop_first():
            del self._offsets[channel]  # else one stays for every channel ever seen


class _Offsets:
    """The offsets of one channel, ascending; dropping the first is O(1) in the long run."""

    __slots__ = ("_begin", "_offsets")

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._begin = 0

    def append(self, offset: int) -> None:
        self._offsets.append(offset)

    def drop_first(self) -> bool:
        """Return whether any are left."""
        self._begin += 1
        if self._begin * 2 >= len(self._offsets):
            del self._offsets[: self._begin]
            self._begin = 0
        return bool(self._offsets)

    def after(self, offset: int) -> Iterator[int]:
        for place in range(self._place_after(offset), len(self._offsets)):
            yield self._offsets[place]

    def count_after(self, offset: int) -> int:
        return len(self._offsets) - self._place_after(offset)

    def last(self, count: int) -> list[int]:
        return self._offsets[max(self._begin, len(self._offsets) - count) :]

    def _place_after(self, offset: int) -> int:
        return bisect_right(self._offsets, offset, lo=self._begin)
