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

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from gateway.streams.feed import Feed, Reason
from gateway.streams.history import History, MergedHistory, bounded
from gateway.streams.ring import StoredPublication
from shared.contracts.ids import ChannelName
from shared.nats.errors import BusUnavailable

Send = Callable[[int, ChannelName, bytes], None]
"""Gets offset, channel and payload, ascending."""


class Unrecoverable(Exception):
    """There may be a hole after the client's offset, so it has to be told."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CatchUpLimits:
    """How much is replayed to one client, and how much of it at a time."""

    replay_limit: int
    batch_count: int = 100
    batch_bytes: int = 64 * 1024
    """Of payloads, sent before asking whether the client keeps up. One always fits."""


class CatchUp:
    """Brings subscribers from where they were to live."""

    def __init__(self, feed: Feed, history: History, limits: CatchUpLimits) -> None:
        self._feed = feed
        self._history = history
        self._limits = limits

    @property
    def position(self) -> int:
        """The offset through which everything was given to those who are live."""
        return self._feed.position

    @property
    def epoch(self) -> str:
        """Of the position."""
        return self._feed.epoch

    def is_newest(self, channel: ChannelName, offset: int) -> bool:
        """Whether nothing was published into the channel after the offset, as far as is known."""
        return not self._feed.ring.count_after((channel,), offset)

    def at_once(self, offset: int, epoch: str | None) -> int | None:
        """The first offset that is to come live, if nothing was missed; None if `run` has to tell.

        Holds within this step of the loop only.
        """
        feed = self._feed
        if offset != feed.position or not feed.epoch or (epoch or feed.epoch) != feed.epoch:
            return None
        return offset + 1

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
            unlimited: However much it is, and unasked; else at most ``replay_limit``.

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
                count = feed.ring.count_after(channels, at)
            else:
                stored = stored or MergedHistory(self._history, channels, at)
                await self._read_on(stored, resets)
                count = stored.count
            if not admitted:
                if count > self._limits.replay_limit:
                    raise Unrecoverable(Reason.TOO_MANY)
                if count:
                    admit(count)
            admitted = True
            if stored is not None:
                batch, at = stored.take(*self._bounds)
            else:
                batch, at = self._from_ring(channels, at)
            for kept in batch:
                send(kept.offset, kept.channel, kept.payload)
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
        feed, resets, position = self._feed, self._feed.resets, self._feed.position
        newest = feed.ring.last(channel, count)
        if newest is None:
            newest = await self._history.last(channel, count, up_to=position)
            self._check_reset(resets)
        while newest:
            batch, _ = bounded(newest, *self._bounds)
            for kept in batch:
                send(kept.offset, kept.channel, kept.payload)
            newest = newest[len(batch) :]
            await drained()
            self._check_reset(resets)
        return position

    @property
    def _bounds(self) -> tuple[int, int]:
        return self._limits.batch_count, self._limits.batch_bytes

    def _from_ring(
        self, channels: Collection[ChannelName], at: int
    ) -> tuple[list[StoredPublication], int]:
        batch, is_all = bounded(self._feed.ring.after(channels, at), *self._bounds)
        return batch, self._feed.position if is_all else batch[-1].offset

    async def _read_on(self, stored: MergedHistory, resets: int) -> None:
        """Read the next batch of each channel from the stream, below the ring's floor."""
        state = await stored.read(up_to=min(self._feed.ring.floor, self._feed.position))
        self._check_reset(resets)
        if state is None:
            return
        if state.epoch != self._feed.epoch:
            raise Unrecoverable(Reason.EPOCH)
        # Asked after the messages were read: what is dropped later has been read already.
        if state.first > stored.needs_from:
            raise Unrecoverable(Reason.TOO_OLD)

    def _check_epoch(self, epoch: str | None) -> None:
        if not self._feed.epoch:
            raise BusUnavailable("the stream has not been seen yet")
        if epoch is not None and epoch != self._feed.epoch:
            raise Unrecoverable(Reason.EPOCH)

    async def _check_ahead(self, offset: int) -> None:
        """The client may know more than this gateway, though not more than the stream."""
        state = await self._history.state()
        if state.epoch != self._feed.epoch:
            raise Unrecoverable(Reason.EPOCH)
        if offset > state.last:
            raise Unrecoverable(Reason.AHEAD)

    def _check_reset(self, resets: int) -> None:
        if self._feed.resets != resets:
            raise Unrecoverable(self._feed.last_reset)
