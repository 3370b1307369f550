"""Several channels of the history as one sequence."""

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable

from gateway.streams.history import HistoryPage
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication


class Source:
    """One channel: what was read and not yet taken, and up to which offset it was read."""

    __slots__ = ("beyond", "buffer", "channel", "through")

    def __init__(self, channel: ChannelName, after: int) -> None:
        self.channel = channel
        self.through = after
        self.beyond = 0
        """How many come behind, as far as is known."""
        self.buffer: deque[StoredPublication] = deque()

    def put(self, page: HistoryPage) -> None:
        self.buffer.extend(page.publications)
        self.through = page.through
        self.beyond = page.beyond


class MergedHistory:
    """Several channels read in the order of offsets, one page of each at a time."""

    def __init__(self, reads: SharedReads, channels: Iterable[ChannelName], after: int) -> None:
        self._reads = reads
        self.sources = [Source(channel, after) for channel in set(channels)]

    async def read(self, *, up_to: int) -> None:
        """Read the next page of every channel of which all was taken.

        Raises:
            Unrecoverable, BusUnavailable: as `SharedReads.read` says.
        """
        unread: list[Source] = []
        for source in self.sources:
            if not source.buffer and source.through < up_to:
                page = self._reads.known(source.channel, source.through, up_to=up_to)
                if page is None:
                    unread.append(source)
                else:
                    source.put(page)
        if len(unread) == 1:
            await self._read(unread[0], up_to)
        elif unread:
            await self._read_concurrently(unread, up_to)

    async def _read_concurrently(self, sources: Iterable[Source], up_to: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for source in sources:
                    group.create_task(self._read(source, up_to))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _read(self, source: Source, up_to: int) -> None:
        source.put(await self._reads.read(source.channel, source.through, up_to=up_to))

    def take(self, max_count: int, max_bytes: int) -> tuple[list[StoredPublication], int]:
        """Take the next publications within the bounds, at least one if there is one.

        Returns:
            The publications, and the offset up to which they are complete.
        """
        horizon = min(source.through for source in self.sources)
        merged = heapq.merge(*(source.buffer for source in self.sources))
        due = (each for each in merged if each.offset <= horizon)
        batch, is_all = bounded(due, max_count, max_bytes)
        through = horizon if is_all else batch[-1].offset
        for source in self.sources:
            while source.buffer and source.buffer[0].offset <= through:
                source.buffer.popleft()
        return batch, through


def bounded(
    publications: Iterable[StoredPublication], max_count: int, max_bytes: int
) -> tuple[list[StoredPublication], bool]:
    """The first ones within the bounds, at least one, and whether these are all."""
    batch: list[StoredPublication] = []
    size = 0
    for each in publications:
        size += len(each.payload)
        if batch and (len(batch) >= max_count or size > max_bytes):
            return batch, False
        batch.append(each)
    return batch, True
