"""What the RT stream holds of a channel, read so that nothing is silently missing.

Batches come from any replica, and one that lags lacks the tail. So where an answer
ends, the leader is asked what comes next: nothing up to the target, or ask again.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from shared.contracts.ids import ChannelName
from shared.contracts.publications import StoredPublication
from shared.jetstream.api import StoredMessage, StreamState
from shared.jetstream.stream_reader import StreamReader
from shared.jetstream.subjects import RT_PUB, channel_of, publication_subject
from shared.nats.errors import BusUnavailable
from shared.nats.headers import header

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How much is read at a time, and how long it may take."""

    batch_count: int = 200
    batch_bytes: int = 128 * 1024
    """As the stream counts them: headers and subjects too. One message always fits."""
    deadline_seconds: float = 5.0
    """For one read, with all its tries."""
    retry_seconds: float = 0.05
    max_reads: int = 32
    """At the same time; others wait, within their deadline."""
    max_probes: int = 40
    """To find where the last N of a channel begin."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of a channel's history without a hole, if the stream still begins before it."""

    publications: list[StoredPublication]
    through: int
    """It reaches up to here, and so do the publications."""
    count: int
    """How many the channel has from the page's beginning on, those after it included."""


class History:
    """Reads of channels; each tries again until its deadline, and then is `BusUnavailable`."""

    def __init__(self, stream: StreamReader, limits: HistoryLimits | None = None) -> None:
        self._stream = stream
        self._limits = limits or HistoryLimits()
        self._turns = asyncio.Semaphore(self._limits.max_reads)

    async def state(self) -> StreamState:
        """Where the stream begins and ends, and its epoch, as its leader knows them.

        Raises:
            BusUnavailable: no answer by the deadline.
        """
        return await self._persist(self._stream.state)

    async def read(self, channel: ChannelName, after: int, *, up_to: int) -> HistoryPage:
        """Read a channel from an offset on, at most one batch of it.

        Whether the stream still began at or before ``after + 1``, only a `state` that
        is read afterwards can tell.

        Raises:
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        return await self._persist(lambda: self._read(channel, after, up_to))

    async def last(
        self, channel: ChannelName, count: int, *, up_to: int
    ) -> list[StoredPublication]:
        """The channel's last publications up to an offset, ascending, without a hole.

        Fewer than ``count`` only if the stream holds no more, or dropped some meanwhile.

        Raises:
            BusUnavailable: no answer by the deadline.
        """
        begin = await self._begin_of_last(channel, count, up_to)
        newest: deque[StoredPublication] = deque(maxlen=count)
        through = begin - 1
        while through < up_to:
            page = await self.read(channel, through, up_to=up_to)
            newest.extend(page.publications)
            through = page.through
        return list(newest)

    async def holds(self, channel: ChannelName, message_id: str, *, since: datetime) -> bool:
        """Whether the channel has a publication with that message id, stored since the moment.

        Raises:
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        subject = publication_subject(channel)
        newest = await self._persist(lambda: _boxed(self._stream.last_on_leader(subject)))
        if newest[0] is None or datetime.fromisoformat(newest[0].time) < since:
            return False
        target, seen = newest[0].sequence, 0
        page: dict[str, Any] = {"start_time": since.isoformat()}
        while seen < target:
            messages = await self._persist(partial(self._page, subject, page))
            if any(_message_id(message) == message_id for message in messages):
                return True
            seen = messages[-1].sequence
            page = {"seq": seen + 1}
        return False

    async def stored(self, offset: int) -> StoredMessage | None:
        """The message at the offset, if the stream still holds it.

        Raises:
            BusUnavailable: no answer by the deadline.
        """
        [message] = await self._persist(lambda: _boxed(self._stream.message_on_leader(offset)))
        return message

    async def _read(self, channel: ChannelName, after: int, up_to: int) -> HistoryPage | None:
        subject = publication_subject(channel)
        batch = await self._stream.batch(self._request(subject, {"seq": after + 1}))
        kept = [_kept(message) for message in batch.messages]
        end = kept[-1].offset if kept else after
        count = len(kept) + batch.pending
        if end < up_to and batch.pending:
            return HistoryPage(kept, end, count)
        if end < up_to:
            following = await self._stream.next_on_leader(subject, end + 1)
            if following is not None and following.sequence <= up_to:
                return HistoryPage(kept, end, count) if kept else None
        return HistoryPage([each for each in kept if each.offset <= up_to], up_to, count)

    async def _page(self, subject: str, start: Mapping[str, Any]) -> list[StoredMessage] | None:
        return (await self._stream.batch(self._request(subject, start))).messages or None

    async def _begin_of_last(self, channel: ChannelName, count: int, up_to: int) -> int:
        """Find an offset from which on there are enough, and not many more.

        No request reads a subject backwards. But how many come after a place is cheap to
        ask, so the place is guessed from the channel's density and then bisected.
        """
        first = (await self.state()).first
        beyond = await self._count_from(channel, up_to + 1)
        total = await self._count_from(channel, first) - beyond
        generous = 4 * count
        if total <= generous:
            return first
        enough, too_few = first, up_to + 1
        begin = max(first, up_to + 1 - (up_to + 1 - first) * 2 * count // total)
        for _ in range(self._limits.max_probes):
            if begin == enough:
                break
            found = await self._count_from(channel, begin) - beyond
            if found < count:
                too_few = begin
            else:
                enough = begin
                if found <= generous:
                    break
            begin = (enough + too_few) // 2
        return enough

    async def _count_from(self, channel: ChannelName, offset: int) -> int:
        request = {"seq": offset, "next_by_subj": publication_subject(channel), "batch": 1}
        batch = await self._persist(lambda: self._stream.batch(request))
        return len(batch.messages) + batch.pending

    def _request(self, subject: str, start: Mapping[str, Any]) -> dict[str, Any]:
        limits = self._limits
        return {
            **start,
            "next_by_subj": subject,
            "batch": limits.batch_count,
            "max_bytes": limits.batch_bytes,
        }

    async def _persist(self, read: Callable[[], Awaitable[T | None]]) -> T:
        """Read until there is an answer; None is a replica that lags."""
        failure = BusUnavailable("replicas of the stream lag behind its leader")
        try:
            async with asyncio.timeout(self._limits.deadline_seconds), self._turns:
                while True:
                    try:
                        answer = await read()
                    except BusUnavailable as unavailable:
                        failure = unavailable
                    else:
                        if answer is not None:
                            return answer
                    await asyncio.sleep(self._limits.retry_seconds)
        except TimeoutError:
            raise failure from None


async def _boxed(message: Awaitable[StoredMessage | None]) -> tuple[StoredMessage | None]:
    """So that None is an answer, and not a reason to ask again."""
    return (await message,)


def _kept(message: StoredMessage) -> StoredPublication:
    channel = channel_of(message.subject.removeprefix(RT_PUB))
    return StoredPublication(message.sequence, channel, message.payload, message.time)


def _message_id(message: StoredMessage) -> str:
    return (header(message.headers, b"Nats-Msg-Id") or b"").decode()


class _Source:
    """One channel: what was read and not taken, and through which offset it was read."""

    __slots__ = ("channel", "count", "through", "waiting")

    def __init__(self, channel: ChannelName, after: int) -> None:
        self.channel = channel
        self.through = after
        self.count: int | None = None
        self.waiting: deque[StoredPublication] = deque()


class MergedHistory:
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
        unread = [each for each in self._sources if not each.waiting and each.through < up_to]
        if not unread:
            return None
        self.needs_from = min(source.through for source in unread) + 1
        if len(unread) == 1:
            await self._read(unread[0], up_to)
        else:
            await self._read_side_by_side(unread, up_to)
        return await self._history.state()

    async def _read_side_by_side(self, sources: Iterable[_Source], up_to: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for source in sources:
                    group.create_task(self._read(source, up_to))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _read(self, source: _Source, up_to: int) -> None:
        page = await self._history.read(source.channel, source.through, up_to=up_to)
        source.waiting.extend(page.publications)
        source.through = page.through
        if source.count is None:
            source.count = page.count

    def take(self, max_count: int, max_bytes: int) -> tuple[list[StoredPublication], int]:
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


def bounded(
    kept: Iterable[StoredPublication], max_count: int, max_bytes: int
) -> tuple[list[StoredPublication], bool]:
    """The first of them within the bounds, at least one, and whether those are all."""
    batch: list[StoredPublication] = []
    size = 0
    for each in kept:
        size += len(each.payload)
        if batch and (len(batch) >= max_count or size > max_bytes):
            return batch, False
        batch.append(each)
    return batch, True
