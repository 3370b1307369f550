"""Several channels of the stream, read in batches and merged into one ascending sequence."""

import heapq
from collections import deque
from collections.abc import Iterable

from gateway.streams.history import History
from gateway.streams.ring import Kept
from shared.bus.direct_get import StreamState
from shared.ids import ChannelName


class _Source:
    """One channel: what was read and not taken yet, and up to where it was read."""

    __slots__ = ("channel", "count", "through", "waiting")

    def __init__(self, channel: ChannelName, after: int) -> None:
        self.channel = channel
        self.through = after
        self.count: int | None = None
        self.waiting: deque[Kept] = deque()


class StoredRun:
    """What the stream holds of some channels after an offset; at most a batch of each in memory."""

    def __init__(self, history: History, channels: Iterable[ChannelName], after: int) -> None:
        self._history = history
        self._sources = [_Source(channel, after) for channel in set(channels)]
        self.needs_from = after + 1
        """The first offset that the last `read` looked at."""

    @property
    def count(self) -> int:
        """How many the channels have altogether, as known when each was first read."""
        return sum(source.count or 0 for source in self._sources)

    async def read(self, *, up_to: int) -> StreamState | None:
        """Read on in every channel of which nothing is left to take.

        Returns:
            How the stream stood afterwards, or None if there was nothing to read. If it no
            longer began at or before `needs_from`, there may be a hole.

        Raises:
            BusUnavailable: no answer by the deadline.
        """
        hungry = [each for each in self._sources if not each.waiting and each.through < up_to]
        if not hungry:
            return None
        self.needs_from = min(source.through for source in hungry) + 1
        for source in hungry:
            stretch = await self._history.read(source.channel, source.through, up_to=up_to)
            source.waiting.extend(stretch.publications)
            source.through = stretch.through
            if source.count is None:
                source.count = stretch.count
        return await self._history.state()

    def take(self, max_count: int, max_bytes: int) -> tuple[list[Kept], int]:
        """Take what comes next, within the bounds, though always one if there is one.

        Returns:
            The publications, and the offset through which they are complete.
        """
        horizon = min(source.through for source in self._sources)
        merged = heapq.merge(*(source.waiting for source in self._sources))
        due = (kept for kept in merged if kept.offset <= horizon)
        batch, is_all = bounded(due, max_count, max_bytes)
        through = horizon if is_all else batch[-1].offset
        for source in self._sources:
            while source.waiting and source.waiting[0].offset <= through:
                source.waiting.popleft()
        return batch, through


def bounded(kept: Iterable[Kept], max_count: int, max_bytes: int) -> tuple[list[Kept], bool]:
    """The first of them within the bounds, at least one, and whether those are all."""
    batch: list[Kept] = []
    size = 0
    for each in kept:
        size += len(each.payload)
        if batch and (len(batch) >= max_count or size > max_bytes):
            return batch, False
        batch.append(each)
    return batch, True
