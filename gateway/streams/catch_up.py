"""From an offset to live, without a hole and without a duplicate.

The one way in which a subscription becomes live: after a reconnect, after lagging, and
from the very beginning. What was missed comes from the ring, or below its floor from the
stream, in bounded batches. While they are sent the feed goes on; once the last one has
reached its position, the subscriber turns live in the same synchronous step, in which
nothing can be published. A client may come from a gateway that was ahead of this one,
so it is live from after its own offset if that is the larger.

Source: "read, then turn live in one step" is mercure's localsubscriber.go with the queue
of live updates replaced by the ring.
"""

import sys
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

from gateway.streams.feed import Feed, Reason, Unrecoverable
from gateway.streams.kept import ALL, KeptOf, all_of_it
from gateway.streams.merged_history import MergedHistory, Source, bounded
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.jetstream.clock import Clock, our_clock
from hubbub_client.nats.errors import BusUnavailable

_PAYLOAD = attrgetter("payload")

Send = Callable[[list[StoredPublication]], None]
"""Gets the publications in batches, ascending."""


@dataclass(frozen=True, slots=True)
class CatchUpLimits:
    """How much is replayed to one client, and how much of it at a time."""

    replay_limit: int
    reply_bytes: int = sys.maxsize
    """Of payloads, that are collected for one reply."""
    batch_count: int = 100
    batch_bytes: int = 64 * 1024
    """Of payloads, sent before asking whether the client keeps up. One always fits."""


class CatchUp:
    """Brings subscribers from where they were to live."""

    def __init__(
        self,
        feed: Feed,
        reads: SharedReads,
        limits: CatchUpLimits,
        *,
        kept_of: KeptOf = all_of_it,
        now: Clock = our_clock,
    ) -> None:
        """
        Args:
            kept_of: What is kept of a channel: only that can be missed and had.
        """
        self._feed = feed
        self._reads = reads
        self._limits = limits
        self._kept_of = kept_of
        self._now = now

    @property
    def position(self) -> int:
        """The offset through which everything was given to those who are live."""
        return self._feed.position

    @property
    def epoch(self) -> str:
        """Of the position."""
        return self._feed.epoch

    @property
    def reply_bytes(self) -> int:
        return self._limits.reply_bytes

    def is_newest(self, channel: ChannelName, offset: int) -> bool:
        """Whether nothing was published into the channel after the offset, as far as is known."""
        return not self._feed.ring.count_after((channel,), offset)

    def recent(
        self, channel: ChannelName, offset: int, epoch: str | None
    ) -> list[StoredPublication] | None:
        """What the channel has after the offset, from memory; None if only `run` can tell.

        Holds within this step of the loop only.
        """
        return self._recent(channel, offset) if self._can_be_here(offset, epoch) else None

    def _recent(self, channel: ChannelName, offset: int) -> list[StoredPublication] | None:
        feed, ring = self._feed, self._feed.ring
        at, found = offset, list[StoredPublication]()
        if at < ring.floor and at < self._floor:
            page = self._reads.known(channel, at, up_to=feed.position)
            if page is None or page.through < self._floor:
                return None
            at, found = page.through, page.publications
        after = ring.all_after(channel, at)
        found = [*found, *after] if found else after
        if found and not self._may_have(channel, len(found), found[0]):
            return None
        return found if len(found) <= self._limits.replay_limit else None

    def recent_together(
        self, channels: Iterable[ChannelName], offset: int, epoch: str | None
    ) -> list[StoredPublication] | None:
        """As `recent`, of several channels in one sequence, if that is not more than one batch."""
        if not self._can_be_here(offset, epoch):
            return None
        found: list[StoredPublication] = []
        if offset == self._feed.position:
            return found  # as most who come
        for channel in channels:
            recent = self._recent(channel, offset)
            if recent is None:
                return None
            found = sorted(found + recent) if found and recent else found or recent
        limits = self._limits
        if len(found) > min(limits.batch_count, limits.replay_limit):
            return None
        is_one_batch = len(found) <= 1 or sum(map(len, map(_PAYLOAD, found))) <= limits.batch_bytes
        return found if is_one_batch else None

    def latest(self, channel: ChannelName) -> list[StoredPublication] | None:
        """The channel's newest publication, if there is one, from memory.

        Holds within this step of the loop only. None if only `read_latest` can tell.
        """
        newest = self._feed.ring.last(channel, 1)
        if newest is None:
            through = self._reads.known_to(channel)
            known = self._reads.known_last(channel, 1, up_to=through)
            if known is None or through < self._floor:
                return None
            newest = [*known, *self._feed.ring.all_after(channel, through)][-1:]
        return self._kept_of(channel).newest_of(newest, self._now())

    async def read_latest(self, channel: ChannelName) -> list[StoredPublication]:
        """As `latest`, in the step in which it returns.

        Raises:
            Unrecoverable: the stream began anew meanwhile.
            BusUnavailable: the stream doesn't answer.
        """
        feed, resets = self._feed, self._feed.resets
        newest, through = await self._newest(channel, 1)
        while through < self._floor:
            page = await self._reads.read(channel, through, up_to=feed.position)
            self._check_reset(resets)
            newest, through = page.publications[-1:] or newest, page.through
        newest = [*newest, *feed.ring.all_after(channel, through)][-1:]
        return self._kept_of(channel).newest_of(newest, self._now())

    async def run(
        self,
        channels: Collection[ChannelName],
        offset: int,
        epoch: str | None,
        *,
        send: Send,
        drained: Callable[[], Awaitable[None]],
        go_live: Callable[[int], None],
        admit: Callable[[int], None] = lambda _count: None,
        unlimited: bool = False,
    ) -> None:
        """Send what the channels have after the offset, then turn live.

        From the feed's own position on that is one synchronous step.

        Args:
            channels: Merged into one ascending sequence.
            offset: The last one that the client has.
            epoch: Of the offset, if the client knows.
            send: Must not wait; gets each publication once.
            drained: Awaited between batches: the client keeps up. It has its own deadline.
            go_live: Called last, with the first offset that is to come live.
            admit: Told how many publications are to come, before the first; may raise. Not
                asked where there are none.
            unlimited: However much it is, and unasked; else at most ``replay_limit``, and only
                what is kept.

        Raises:
            Unrecoverable: before anything was sent. Afterwards only if the stream began anew,
                or dropped what comes next, in mid-replay.
            BusUnavailable: the stream doesn't answer; what was sent so far has no hole.
        """
        feed, resets = self._feed, self._feed.resets
        self._check_epoch(epoch)
        if offset > feed.position:
            await self._check_ahead(offset)
            self._check_reset(resets)
        at, admitted = offset, unlimited
        stored: MergedHistory | None = None
        while channels and at < feed.position:
            if at >= feed.ring.floor:
                stored = None
            else:
                stored = stored or MergedHistory(self._reads, channels, at)
                await stored.read(up_to=feed.position)
                self._check_reset(resets)
            if not admitted:
                count = self._count_missed(channels, at, stored)
                if count:
                    admit(count)
                admitted = True
            if stored is not None:
                batch, at = stored.take(*self._bounds)
            else:
                batch, at = self._from_ring(channels, at)
            if batch:
                send(batch)
            if at < feed.position:
                await drained()
                self._check_reset(resets)
        go_live(max(feed.position, offset) + 1)

    async def newest(
        self,
        channel: ChannelName,
        count: int,
        *,
        send: Send,
        drained: Callable[[], Awaitable[None]],
    ) -> int:
        """Send the channel's last publications; return the offset from which to catch up.

        Raises:
            Unrecoverable: the stream began anew meanwhile.
            BusUnavailable: the stream doesn't answer.
        """
        resets = self._feed.resets
        newest, through = await self._newest(channel, count)
        newest = self._kept_of(channel).newest_of(newest, self._now())
        while newest:
            batch, _ = bounded(newest, *self._bounds)
            send(batch)
            newest = newest[len(batch) :]
            await drained()
            self._check_reset(resets)
        return through

    async def _newest(
        self, channel: ChannelName, count: int
    ) -> tuple[list[StoredPublication], int]:
        """The channel's last publications, up to an offset, and that."""
        feed, resets = self._feed, self._feed.resets
        newest = feed.ring.last(channel, count)
        if newest is not None:
            return newest, feed.position
        through = self._reads.known_to(channel)
        if through < self._floor:
            through = feed.position
        newest = await self._reads.last(channel, count, up_to=through)
        self._check_reset(resets)
        if through < self._floor:
            return newest, through
        return [*newest, *feed.ring.all_after(channel, through)][-count:], feed.position

    @property
    def _floor(self) -> int:
        """The ring has everything above it up to the position."""
        return min(self._feed.ring.floor, self._feed.position)

    def _count_missed(
        self, channels: Collection[ChannelName], at: int, stored: MergedHistory | None
    ) -> int:
        """How many publications were missed, if all of them may be had."""
        ring, total = self._feed.ring, 0
        sources = [Source(each, at) for each in channels] if stored is None else stored.sources
        for source in sources:
            channel, count = source.channel, len(source.buffer)
            if source.through >= self._floor:
                count += ring.count_after((channel,), source.through)
            else:
                count += source.beyond
            oldest = next(chain(source.buffer, ring.after((channel,), source.through)), None)
            if oldest is not None and not self._may_have(channel, count, oldest):
                raise Unrecoverable(Reason.TOO_OLD)
            total += count
        if total > self._limits.replay_limit:
            raise Unrecoverable(Reason.TOO_MANY)
        return total

    def _may_have(self, channel: ChannelName, count: int, oldest: StoredPublication) -> bool:
        """Whether the channel's newest publications, so many and none older, are all kept."""
        kept = self._kept_of(channel)
        return kept is ALL or kept.includes(oldest, count, self._now())

    @property
    def _bounds(self) -> tuple[int, int]:
        return self._limits.batch_count, self._limits.batch_bytes

    def _from_ring(
        self, channels: Collection[ChannelName], at: int
    ) -> tuple[list[StoredPublication], int]:
        batch, is_all = bounded(self._feed.ring.after(channels, at), *self._bounds)
        return batch, self._feed.position if is_all else batch[-1].offset

    def _can_be_here(self, offset: int, epoch: str | None) -> bool:
        """Whether this gateway has seen the offset."""
        feed = self._feed
        return bool(feed.epoch) and (epoch or feed.epoch) == feed.epoch and offset <= feed.position

    def _check_epoch(self, epoch: str | None) -> None:
        if not self._feed.epoch:
            raise BusUnavailable("the stream has not been seen yet")
        if epoch is not None and epoch != self._feed.epoch:
            raise Unrecoverable(Reason.EPOCH)

    async def _check_ahead(self, offset: int) -> None:
        """The client may know more than this gateway, though not more than the stream."""
        state = await self._reads.state()
        if state.epoch != self._feed.epoch:
            raise Unrecoverable(Reason.EPOCH)
        if offset > state.last:
            raise Unrecoverable(Reason.AHEAD)

    def _check_reset(self, resets: int) -> None:
        if self._feed.resets != resets:
            raise Unrecoverable(self._feed.last_reset)
