"""Reads channels from the RT stream so that nothing is silently missing.

A batch may come from a replica that lags, which lacks the newest messages. So where a batch ends,
the leader is asked for the next message. If there is one up to the target, the batch is asked for
again.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from gateway.streams.kept import Kept
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
    """How much is read at a time, and for how long."""

    batch_count: int = 200
    batch_bytes: int = 128 * 1024
    """Headers and subjects count too. One message is always read, however long it is."""
    deadline_seconds: float = 5.0
    """For one read with its retries."""
    retry_seconds: float = 0.05
    max_reads: int = 32
    """At the same time. Further ones wait, within their deadline."""
    max_probes: int = 40
    """Requests to find where the last N publications of a channel begin."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of a channel's history. It has no hole if the stream still begins before it."""

    publications: list[StoredPublication]
    through: int
    """The offset up to which the page is complete."""
    count: int
    """How many publications the channel has from the page's beginning to the stream's end."""


class History:
    """Each read is tried again until its deadline; then it raises `BusUnavailable`."""

    def __init__(self, stream: StreamReader, limits: HistoryLimits | None = None) -> None:
        self._stream = stream
        self._limits = limits or HistoryLimits()
        self._may_read = asyncio.Semaphore(self._limits.max_reads)

    async def state(self) -> StreamState:
        """The stream's first and last offset and its epoch, from its leader.

        Raises:
            BusUnavailable: no answer by the deadline.
        """
        return await self._retry(self._stream.state)

    async def read(self, channel: ChannelName, after: int, *, up_to: int) -> HistoryPage:
        """Read one batch of a channel, beginning after an offset.

        To know that there is no hole, read the `state` afterwards: the stream must still begin
        at or before ``after + 1``.

        Raises:
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        return await self._retry(lambda: self._read(channel, after, up_to))

    async def last(
        self, channel: ChannelName, count: int, *, up_to: int
    ) -> list[StoredPublication]:
        """The channel's last publications up to an offset, ascending, without a hole.

        They are fewer than ``count`` only if the stream holds no more, or removed some meanwhile.

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

    async def begin(self, channel: ChannelName, kept: Kept, now: float, up_to: int) -> int:
        """The offset from which on the channel's publications, up to another, are kept.

        Raises:
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        begin = 0
        if kept.ttl_seconds is not None:
            since = datetime.fromtimestamp(now - kept.ttl_seconds, UTC)
            begin = await self._first_since(channel, since) or up_to + 1
        if kept.size is not None and begin <= up_to:
            newest = await self.last(channel, kept.size, up_to=up_to)
            begin = max(begin, newest[0].offset if newest else 0)
        return begin

    async def _first_since(self, channel: ChannelName, since: datetime) -> int | None:
        """The offset of the channel's first publication since then, if there is one."""
        subject = publication_subject(channel)
        [newest] = await self._retry(lambda: _wrap(self._stream.last_on_leader(subject)))
        if newest is None or datetime.fromisoformat(newest.time) < since:
            return None
        page = {"start_time": since.isoformat(), "next_by_subj": subject, "batch": 1}
        return (await self._retry(partial(self._page, page)))[0].sequence

    async def holds(self, channel: ChannelName, message_id: str, *, since: datetime) -> bool:
        """Whether the channel has a publication with this message id, stored since then.

        Raises:
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        subject = publication_subject(channel)
        [newest] = await self._retry(lambda: _wrap(self._stream.last_on_leader(subject)))
        if newest is None or datetime.fromisoformat(newest.time) < since:
            return False
        target, seen = newest.sequence, 0
        page: dict[str, Any] = {"start_time": since.isoformat()}
        while seen < target:
            messages = await self._retry(partial(self._page, self._request(subject, page)))
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
        [message] = await self._retry(lambda: _wrap(self._stream.message_on_leader(offset)))
        return message

    async def _read(self, channel: ChannelName, after: int, up_to: int) -> HistoryPage | None:
        subject = publication_subject(channel)
        batch = await self._stream.batch(self._request(subject, {"seq": after + 1}))
        found = [_to_publication(message) for message in batch.messages]
        end = found[-1].offset if found else after
        count = len(found) + batch.pending
        if end < up_to and batch.pending:
            return HistoryPage(found, end, count)
        if end < up_to:
            following = await self._stream.next_on_leader(subject, end + 1)
            if following is not None and following.sequence <= up_to:
                return HistoryPage(found, end, count) if found else None
        return HistoryPage([each for each in found if each.offset <= up_to], up_to, count)

    async def _page(self, request: Mapping[str, Any]) -> list[StoredMessage] | None:
        return (await self._stream.batch(request)).messages or None

    async def _begin_of_last(self, channel: ChannelName, count: int, up_to: int) -> int:
        """Find an offset from which on the channel has ``count`` publications, and not many more.

        JetStream can't read a subject backwards, but it counts cheaply what comes after an offset.
        So the offset is guessed from the channel's density, and then found by bisection.
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
        batch = await self._retry(lambda: self._stream.batch(request))
        return len(batch.messages) + batch.pending

    def _request(self, subject: str, start: Mapping[str, Any]) -> dict[str, Any]:
        limits = self._limits
        return {
            **start,
            "next_by_subj": subject,
            "batch": limits.batch_count,
            "max_bytes": limits.batch_bytes,
        }

    async def _retry(self, read: Callable[[], Awaitable[T | None]]) -> T:
        """Try again until there is an answer. None means that the replica lags."""
        failure = BusUnavailable("replicas of the stream lag behind its leader")
        try:
            async with asyncio.timeout(self._limits.deadline_seconds), self._may_read:
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


async def _wrap(message: Awaitable[StoredMessage | None]) -> tuple[StoredMessage | None]:
    """Wrap the answer, since a bare None would be taken for a replica that lags."""
    return (await message,)


def _to_publication(message: StoredMessage) -> StoredPublication:
    channel = channel_of(message.subject.removeprefix(RT_PUB))
    return StoredPublication(message.sequence, channel, message.payload, message.time)


def _message_id(message: StoredMessage) -> str:
    return (header(message.headers, b"Nats-Msg-Id") or b"").decode()


class _Source:
    """One channel: what was read and not yet taken, and up to which offset it was read."""

    __slots__ = ("buffer", "channel", "count", "through")

    def __init__(self, channel: ChannelName, after: int) -> None:
        self.channel = channel
        self.through = after
        self.count: int | None = None
        self.buffer: deque[StoredPublication] = deque()


class MergedHistory:
    """Several channels read in the order of offsets, with at most one batch of each in memory."""

    def __init__(self, history: History, channels: Iterable[ChannelName], after: int) -> None:
        self._history = history
        self._sources = [_Source(channel, after) for channel in set(channels)]
        self.needs_from = after + 1
        """The first offset that the last `read` asked for."""

    def missed(self) -> Iterator[tuple[ChannelName, int, StoredPublication | None]]:
        """Each channel, how many publications it had when it was first read, and their first.

        The first is None if it comes after what was read.
        """
        for source in self._sources:
            first = source.buffer[0] if source.buffer else None
            yield source.channel, source.count or 0, first

    async def read(self, *, up_to: int) -> StreamState | None:
        """Read the next batch of every channel of which all was taken.

        Returns:
            The stream's state afterwards, or None if there was nothing to read. If the stream
            begins after `needs_from` by then, there may be a hole.

        Raises:
            BusUnavailable: no answer by the deadline.
        """
        unread = [each for each in self._sources if not each.buffer and each.through < up_to]
        if not unread:
            return None
        self.needs_from = min(source.through for source in unread) + 1
        if len(unread) == 1:
            await self._read(unread[0], up_to)
        else:
            await self._read_concurrently(unread, up_to)
        return await self._history.state()

    async def _read_concurrently(self, sources: Iterable[_Source], up_to: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for source in sources:
                    group.create_task(self._read(source, up_to))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _read(self, source: _Source, up_to: int) -> None:
        page = await self._history.read(source.channel, source.through, up_to=up_to)
        source.buffer.extend(page.publications)
        source.through = page.through
        if source.count is None:
            source.count = page.count

    def take(self, max_count: int, max_bytes: int) -> tuple[list[StoredPublication], int]:
        """Take the next publications within the bounds, at least one if there is one.

        Returns:
            The publications, and the offset up to which they are complete.
        """
        horizon = min(source.through for source in self._sources)
        merged = heapq.merge(*(source.buffer for source in self._sources))
        due = (each for each in merged if each.offset <= horizon)
        batch, is_all = bounded(due, max_count, max_bytes)
        through = horizon if is_all else batch[-1].offset
        for source in self._sources:
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
