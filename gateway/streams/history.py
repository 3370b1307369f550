"""Reads channels from the RT stream so that nothing is silently missing.

A batch may come from a replica that lags, which lacks the newest messages. So where a batch ends,
the leader is asked for the next message. If there is one up to the target, the batch is asked for
again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import RT_PUB, channel_of, publication_subject
from hubbub_client.jetstream.api import StoredMessage, StreamState
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.nats.headers import header

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
    beyond: int
    """How many publications of the channel come behind it, to the stream's end."""


class History:
    """Each read is tried again until its deadline; then it raises `BusUnavailable`."""

    def __init__(self, stream: StreamReader, limits: HistoryLimits | None = None) -> None:
        self._stream = stream
        self._limits = limits or HistoryLimits()
        self._may_read = asyncio.Semaphore(self._limits.max_reads)

    @property
    def deadline_seconds(self) -> float:
        """For one read."""
        return self._limits.deadline_seconds

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
        first = (await self.state()).first
        begin, _ = await self._begin_of_last(channel, count, first, up_to, at_most=2 * count)
        while True:
            newest: deque[StoredPublication] = deque(maxlen=count)
            through = begin - 1
            while through < up_to:
                page = await self.read(channel, through, up_to=up_to)
                newest.extend(page.publications)
                through = page.through
            if len(newest) == count or begin <= first:
                return list(newest)
            begin = max(first, up_to - 4 * (up_to + 1 - begin))  # a replica that lags miscounted

    async def newest(self, channel: ChannelName) -> StoredPublication | None:
        """The channel's newest publication, by the stream's leader.

        Raises:
            BusUnavailable: no answer by the deadline.
        """
        newest = await self._newest(channel)
        return None if newest is None else _to_publication(newest)

    async def first_since(self, channel: ChannelName, since: datetime) -> int | None:
        """The offset of the channel's first publication since then, if there is one.

        Raises:
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        newest = await self._newest(channel)
        if newest is None or datetime.fromisoformat(newest.time) < since:
            return None
        page = {
            "start_time": since.isoformat(),
            "next_by_subj": publication_subject(channel),
            "batch": 1,
        }
        return (await self._retry(partial(self._page, page)))[0].sequence

    async def offset_of_last(self, channel: ChannelName, count: int, *, up_to: int) -> int:
        """The offset at which the channel's last ``count`` publications begin, up to another.

        While a replica lags it may be off by as many as that lacks.

        Raises:
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        most = count + self._limits.batch_count
        first = (await self.state()).first
        begin, found = await self._begin_of_last(channel, count, first, up_to, at_most=most)
        excess, through = found - count, begin - 1
        while excess > 0 and through < up_to:
            page = await self.read(channel, through, up_to=up_to)
            if excess < len(page.publications):
                return page.publications[excess].offset
            excess -= len(page.publications)
            through = page.through
        return through + 1

    async def holds(self, channel: ChannelName, message_id: str, *, since: datetime) -> bool:
        """Whether the channel has a publication with this message id, stored since then.

        Raises:
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        subject, newest = publication_subject(channel), await self._newest(channel)
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
        if end < up_to and batch.pending:
            return HistoryPage(found, end, batch.pending)
        if end < up_to:
            following = await self._stream.next_on_leader(subject, end + 1)
            if following is not None and following.sequence <= up_to:
                return HistoryPage(found, end, 1) if found else None
        publications = [each for each in found if each.offset <= up_to]
        return HistoryPage(publications, up_to, len(found) - len(publications) + batch.pending)

    async def _newest(self, channel: ChannelName) -> StoredMessage | None:
        subject = publication_subject(channel)
        [newest] = await self._retry(lambda: _wrap(self._stream.last_on_leader(subject)))
        return newest

    async def _page(self, request: Mapping[str, Any]) -> list[StoredMessage] | None:
        return (await self._stream.batch(request)).messages or None

    async def _begin_of_last(
        self, channel: ChannelName, count: int, first: int, up_to: int, *, at_most: int
    ) -> tuple[int, int]:
        """Find an offset from which on the channel has ``count`` publications, and not many more.

        JetStream can't read a subject backwards, but it counts cheaply what comes after an offset.
        So the offset is guessed from the channel's density, and then found by bisection.

        Returns:
            The offset, and how many publications there are from it on: at most ``at_most``.
        """
        beyond = await self._count_from(channel, up_to + 1)
        total = await self._count_from(channel, first) - beyond
        if total <= at_most:
            return first, total
        enough, enough_count, too_few = first, total, up_to + 1
        begin = max(first, up_to + 1 - (up_to + 1 - first) * 3 * count // (2 * total))
        for _ in range(self._limits.max_probes):
            if begin == enough:
                break
            found = await self._count_from(channel, begin) - beyond
            if found < count:
                too_few = begin
            else:
                enough, enough_count = begin, found
                if found <= at_most:
                    break
            begin = (enough + too_few) // 2
        return enough, enough_count

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
