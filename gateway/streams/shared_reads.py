"""Reads of channels from the stream, made once for many who come back at once.

After the end of a gateway thousands come to another within seconds, and ask it for nearly the
same. So what was read of a channel stays here for some seconds, in pieces that are known to have
no hole; and while a channel is read, others who need more of it wait, and the next read is for
all of them.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from gateway.streams.brief_cache import BriefCache, CacheLimits
from gateway.streams.feed import Feed, Reason, Unrecoverable
from gateway.streams.history import History, HistoryPage
from gateway.streams.pieces import Piece, Pieces
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.jetstream.api import StreamState
from hubbub_client.nats.errors import BusUnavailable

_AGAIN, _GENEROUS = 2, 100
"""When somebody is further behind for the second time, others may be too: so much more is read."""


class _Waiting:
    """Somebody who needs what comes after an offset."""

    __slots__ = ("after",)

    def __init__(self, after: int) -> None:
        self.after = after


class _Channel:
    """What is known of one channel, and who waits for more of it."""

    __slots__ = ("lock", "pieces", "reads_in_front", "waiting")

    def __init__(self) -> None:
        self.pieces = Pieces()
        self.reads_in_front = 0
        """For those who were further behind than others before."""
        self.lock = asyncio.Lock()
        self.waiting: list[_Waiting] = []


class SharedReads:
    """The history of channels below the ring's floor, as those need it who come back."""

    def __init__(
        self,
        feed: Feed,
        history: History,
        limits: CacheLimits | None = None,
        *,
        max_channel_bytes: int = 1024 * 1024,
    ) -> None:
        """
        Args:
            max_channel_bytes: Of a channel of which more was read, what was read last stays.
        """
        self._feed = feed
        self._history = history
        self._max_channel_bytes = max_channel_bytes
        self._channels = BriefCache[ChannelName, _Channel](limits or CacheLimits())
        self._resets = feed.resets
        self._first = 0
        """The stream is known to hold nothing before it any more."""
        self._state_lock = asyncio.Lock()
        self._states_wanted = 0
        self._states_known = 0
        self._state: StreamState | None = None

    @property
    def channel_count(self) -> int:
        """Of how many channels something is kept."""
        return len(self._channels)

    def known(self, channel: ChannelName, after: int, *, up_to: int) -> HistoryPage | None:
        """As `read`, if that was read a moment ago."""
        entry = self._known(channel)
        return None if entry is None else entry.pieces.page(after, up_to)

    async def read(
        self, channel: ChannelName, after: int, *, up_to: int, or_oldest: bool = False
    ) -> HistoryPage:
        """Read on in a channel from an offset, which comes before ``up_to``.

        Args:
            or_oldest: Begin where the stream does, if that is later.

        Raises:
            Unrecoverable: the stream no longer holds what comes next, or began anew.
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        entry, resets = self._entry(channel), self._feed.resets
        waiting = _Waiting(after)
        entry.waiting.append(waiting)
        try:
            async with self._turn(entry):
                while (page := entry.pieces.page(waiting.after, up_to)) is None:
                    if waiting.after >= up_to:  # the stream begins behind it
                        page = HistoryPage([], up_to, beyond=0)
                        break
                    if waiting.after + 1 < self._first:
                        if not or_oldest:
                            raise Unrecoverable(Reason.TOO_OLD)
                        waiting.after = self._first - 1
                    else:
                        await self._read_more(channel, entry, up_to)
        finally:
            entry.waiting.remove(waiting)
        self._check_reset(resets)
        return page

    def known_last(
        self, channel: ChannelName, count: int, *, up_to: int
    ) -> list[StoredPublication] | None:
        """As `last`, if that was read a moment ago."""
        entry = self._known(channel)
        return None if entry is None else entry.pieces.last(count, up_to)

    def known_to(self, channel: ChannelName) -> int:
        """The offset up to which something is known of the channel."""
        entry = self._known(channel)
        return 0 if entry is None else entry.pieces.end

    async def last(
        self, channel: ChannelName, count: int, *, up_to: int
    ) -> list[StoredPublication]:
        """The channel's last publications up to an offset, ascending, without a hole.

        They are fewer than ``count`` only if the stream holds no more.

        Raises:
            Unrecoverable: the stream began anew.
            BusUnavailable: no answer by the deadline, or only from replicas that lag.
        """
        found = self.known_last(channel, count, up_to=up_to)
        if found is None:
            entry, resets = self._entry(channel), self._feed.resets
            async with self._turn(entry):
                found = entry.pieces.last(count, up_to)
                if found is None:
                    newest = await self._history.last(channel, count, up_to=up_to)
                    is_all = len(newest) < count
                    piece = Piece(
                        0 if is_all else newest[0].offset - 1, up_to, newest, is_first=is_all
                    )
                    piece = await self._checked(piece, resets)
                    self._keep(channel, entry, piece)
                    found = piece.publications
            self._check_reset(resets)
        return found

    async def state(self) -> StreamState:
        """The stream's state as it is after the call; one answer does for all who wait for one.

        Raises:
            BusUnavailable: no answer by the deadline.
        """
        self._states_wanted += 1
        wanted = self._states_wanted
        async with self._state_lock:
            if self._state is None or self._states_known < wanted:
                known = self._states_wanted
                self._state = await self._history.state()
                self._states_known = known
            return self._state

    async def _read_more(self, channel: ChannelName, entry: _Channel, up_to: int) -> None:
        """Read on from the lowest offset at which somebody waits."""
        resets, pieces = self._feed.resets, entry.pieces
        waiting = [each.after for each in entry.waiting if each.after + 1 >= self._first]
        lowest = min(each for each in waiting if not pieces.know_next(each))
        piece = None
        if self._may_have_missed_nothing(channel, pieces, lowest):
            piece = await self._read_newest(channel, up_to)
        if piece is None:
            begin, end = lowest, pieces.next_known(lowest)
            if end is not None:
                entry.reads_in_front += 1
                if entry.reads_in_front == _AGAIN:
                    begin = max(begin - pieces.span_of(_GENEROUS), self._first - 1)
            page = await self._history.read(channel, begin, up_to=min(up_to, end or up_to))
            piece = Piece(begin, page.through, page.publications, page.beyond)
        self._keep(channel, entry, await self._checked(piece, resets))

    def _may_have_missed_nothing(self, channel: ChannelName, pieces: Pieces, after: int) -> bool:
        """Whether it is worth while to ask for the newest publication, which may tell it all."""
        is_in_ring = self._feed.ring.count_after((channel,), after)
        return not is_in_ring and pieces.end < after and pieces.next_known(after) is None

    async def _read_newest(self, channel: ChannelName, up_to: int) -> Piece | None:
        newest = await self._history.newest(channel)
        if newest is None:
            return Piece(0, up_to, [], is_first=True)
        if newest.offset <= up_to:
            return Piece(newest.offset - 1, up_to, [newest])
        return None

    async def _checked(self, piece: Piece, resets: int) -> Piece:
        """The part of what was read that can have no hole: from where the stream begins now."""
        state = await self.state()
        self._check_reset(resets)
        if state.epoch != self._feed.epoch:
            raise Unrecoverable(Reason.EPOCH)
        self._first = max(self._first, state.first)
        return piece.from_offset(self._first)

    def _check_reset(self, resets: int) -> None:
        if self._feed.resets != resets:
            raise Unrecoverable(self._feed.last_reset)

    @asynccontextmanager
    async def _turn(self, entry: _Channel) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(self._history.deadline_seconds):
                await entry.lock.acquire()
        except TimeoutError:
            raise BusUnavailable("others wait for the same of the stream") from None
        try:
            yield
        finally:
            entry.lock.release()

    # What is kept.

    def _known(self, channel: ChannelName) -> _Channel | None:
        if self._resets != self._feed.resets:  # offsets may be given again in a new stream
            self._resets, self._first = self._feed.resets, 0
            self._channels.clear()
        return self._channels.get(channel)

    def _entry(self, channel: ChannelName) -> _Channel:
        entry = self._known(channel)
        if entry is None:
            entry = _Channel()
            self._channels.put(channel, entry, entry.pieces.bytes)
        return entry

    def _keep(self, channel: ChannelName, entry: _Channel, piece: Piece) -> None:
        if piece.after < piece.through:
            entry.pieces.add(piece)
            if entry.pieces.bytes > self._max_channel_bytes:
                entry.pieces.forget_all_but(piece)
            self._channels.put(channel, entry, entry.pieces.bytes)
