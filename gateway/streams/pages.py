"""Pages of a channel's history, as clients and services ask for them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from gateway.streams.feed import Feed, Reason, Unrecoverable
from gateway.streams.history import History
from gateway.streams.kept import ALL, Kept, KeptOf, all_of_it
from gateway.streams.ring import NOTHING
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.jetstream.clock import Clock, our_clock
from hubbub_client.nats.errors import BusUnavailable

EVERYTHING = -1
"""The limit of who wants all that is kept."""


@dataclass(frozen=True, slots=True)
class PageLimits:
    """How much one page holds at most; who wants more asks for the next one."""

    max_count: int = 1000
    max_bytes: int = 4 * 1024 * 1024
    """Of payloads. One publication always fits."""
    step_count: int = 64
    """So many are read at first where the stream is read backwards, to see how long they are. As
    many of the longest fill a page, about."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some publications of a channel, and where the stream stands."""

    publications: list[StoredPublication]
    epoch: str
    top: int
    """The offset up to which all that there is could be read. It is none of the channel's own."""


class Pages:
    """Reads what is kept of channels, from the ring where that has it."""

    def __init__(
        self,
        feed: Feed,
        reads: SharedReads,
        history: History,
        *,
        kept_of: KeptOf = all_of_it,
        limits: PageLimits | None = None,
        now: Clock = our_clock,
    ) -> None:
        self._feed = feed
        self._reads = reads
        self._history = history
        self._kept_of = kept_of
        self._limits = limits or PageLimits()
        self._now = now

    async def read(
        self,
        channel: ChannelName,
        *,
        limit: int,
        since: tuple[int, str | None] | None = None,
        reverse: bool = False,
    ) -> Page:
        """Read one page.

        Args:
            limit: At most so many publications: 0 for none, only the position; `EVERYTHING` for
                all that one page holds.
            since: An offset and its epoch, if that is known. The page has what comes after it,
                or in reverse what comes before. Without it: from the oldest on, or from the newest.
            reverse: The newest first.

        Raises:
            Unrecoverable: the offset is none of this stream's.
            BusUnavailable: the stream doesn't answer.
        """
        feed, resets = self._feed, self._feed.resets
        if not feed.epoch:
            raise BusUnavailable("the stream has not been seen yet")
        top = feed.position
        if since is not None:
            top = max(top, await self._checked(*since))
        count = self._limits.max_count if limit < 0 else min(limit, self._limits.max_count)
        if count == 0:
            return Page([], feed.epoch, top)
        offset = None if since is None else since[0]
        found = self._from_ring(channel, offset, count, reverse=reverse)
        if found is None:
            found = await self._from_stream(channel, offset, count, reverse=reverse)
        if feed.resets != resets:
            raise Unrecoverable(feed.last_reset)
        return Page(self._bounded(found), feed.epoch, top)

    async def _checked(self, offset: int, epoch: str | None) -> int:
        """The offset, which may be one that this gateway has yet to see."""
        if epoch and epoch != self._feed.epoch:
            raise Unrecoverable(Reason.EPOCH)
        if offset > self._feed.position:
            state = await self._reads.state()
            if state.epoch != self._feed.epoch:
                raise Unrecoverable(Reason.EPOCH)
            if offset > state.last:
                raise Unrecoverable(Reason.AHEAD)
        return offset

    def _from_ring(
        self, channel: ChannelName, since: int | None, count: int, *, reverse: bool
    ) -> list[StoredPublication] | None:
        """The page, ascending or in reverse; None if the ring may lack a part of it."""
        ring, kept = self._feed.ring, self._kept_of(channel)
        if kept == ALL and reverse:  # no more of the ring is looked at than the page holds
            newest = ring.last(channel, count, NOTHING if since is None else since - 1)
            return None if newest is None else newest[::-1]
        if kept == ALL:
            begin = since or 0
            found = islice(ring.after((channel,), begin), count)
            return [*found] if begin >= ring.floor else None
        here = ring.all_after(channel, 0)
        newest = kept.newest_of(here, self._now())
        has_all = len(newest) < len(here) or len(newest) == kept.size or self._reaches(kept)
        if reverse:
            before = [each for each in reversed(newest) if since is None or each.offset < since]
            return before[:count] if has_all or len(before) >= count else None
        if since is None:
            return newest[:count] if has_all else None
        after = [each for each in newest if each.offset > since]
        return after[:count] if has_all or since >= ring.floor else None

    def _reaches(self, kept: Kept) -> bool:
        """Whether the ring begins before all that is kept."""
        ring = self._feed.ring
        if ring.floor == 0:
            return True
        oldest = ring.oldest()
        return oldest is not None and not kept.includes(oldest, 0, self._now())

    async def _from_stream(
        self, channel: ChannelName, since: int | None, count: int, *, reverse: bool
    ) -> list[StoredPublication]:
        position, kept = self._feed.position, self._kept_of(channel)
        if reverse and since is None:
            newest = await self._newest(channel, kept.at_most(count), up_to=position)
            return kept.newest_of(newest[::-1], self._now())[::-1]
        begin = await self._begin(channel, kept, position)
        if reverse:
            up_to = position if since is None else min(position, since - 1)
            newest = await self._newest(channel, count, up_to=up_to)
            return [each for each in newest if each.offset >= begin]
        found: list[StoredPublication] = []
        size, through = 0, max(since or 0, begin - 1)
        while through < position and len(found) < count and size <= self._limits.max_bytes:
            page = await self._reads.read(channel, through, up_to=position, or_oldest=True)
            found += page.publications
            size += _bytes_of(page.publications)
            through = page.through
        return found[:count]

    async def _newest(
        self, channel: ChannelName, count: int, *, up_to: int
    ) -> list[StoredPublication]:
        """The last publications up to an offset, the newest first, until the page is full."""
        most, step = self._limits.max_bytes, self._limits.step_count
        found: list[StoredPublication] = []
        size = 0
        while up_to > 0 and len(found) < count and size <= most:
            step = min(step, count - len(found))
            newest = await self._reads.last(channel, step, up_to=up_to)
            found += reversed(newest)
            size += _bytes_of(newest)
            up_to = newest[0].offset - 1 if len(newest) == step else 0
            # As many as there is room for, if they are like those so far; at most as many again.
            step = min(len(found), len(found) * (most - size) // max(size, 1) + 1)
        return found

    async def _begin(self, channel: ChannelName, kept: Kept, position: int) -> int:
        """The offset from which on the channel's publications are kept."""
        begin = 0
        if kept.ttl_seconds is not None:
            since = datetime.fromtimestamp(self._now() - kept.ttl_seconds, UTC)
            begin = await self._history.first_since(channel, since) or position + 1
        if kept.size is None or begin > position:
            return begin
        if kept.size > self._limits.max_count:
            oldest = await self._history.offset_of_last(channel, kept.size, up_to=position)
            return max(begin, oldest)
        newest = await self._reads.last(channel, kept.size, up_to=position)  # others need it too
        return max(begin, newest[0].offset if newest else 0)

    def _bounded(self, found: list[StoredPublication]) -> list[StoredPublication]:
        size = 0
        for number, each in enumerate(found):
            size += len(each.payload)
            if number and size > self._limits.max_bytes:
                return list(islice(found, number))
        return found


def _bytes_of(publications: list[StoredPublication]) -> int:
    return sum(len(each.payload) for each in publications)
