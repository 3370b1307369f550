"""From an offset to live: subscriptions are sent what they miss, in order.

A session that comes back, or is new, starts from the offset that it names. A slow consumer starts
from the last that it was given: its socket took too little, so it gets nothing live, and costs no
more than what its socket holds. Once that has drained it is sent what it missed from the stream,
in bounded batches at its own pace; the transport ends it if that takes longer than `lag_seconds`.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from itertools import groupby
from operator import attrgetter

from gateway.channels.connection import Connection, Format, Frame
from gateway.channels.registry import CATCHING_UP, Subscription
from gateway.metrics import GatewayMetrics
from gateway.streams.catch_up import CatchUp
from gateway.streams.encodings import Encodings
from gateway.streams.feed import Reason, Unrecoverable
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import BadPublication, StoredPublication

_RETRY_SECONDS = 0.5


class ConnectionLost(Exception):
    """The connection ended meanwhile."""


class Recovery:
    """Some subscriptions of one connection that are not live yet, and turn live together."""

    def __init__(
        self,
        connection: Connection,
        subscriptions: Collection[Subscription],
        catch_up: CatchUp,
        encodings: Encodings,
        metrics: GatewayMetrics,
        *,
        delivered_offset: int = 0,
    ) -> None:
        self.connection = connection
        self.subscriptions = {each.channel: each for each in subscriptions}
        self.delivered_offset = delivered_offset
        """Nothing at or below it is missing from what was sent."""
        self._catch_up = catch_up
        self._encodings = encodings
        self._metrics = metrics

    @property
    def is_live(self) -> bool:
        return all(each.live_from != CATCHING_UP for each in self.subscriptions.values())

    async def run(
        self,
        offset: int,
        epoch: str | None,
        *,
        before_first: Callable[[], None] = lambda: None,
        admit: Callable[[int], None] = lambda _count: None,
        on_live: Callable[[], None] = lambda: None,
        unlimited: bool = False,
    ) -> None:
        """Send what came after the offset, and turn the subscriptions live.

        Args:
            before_first: Called in the step in which something is sent first, or they turn live.
            admit: As `CatchUp.run` says.
            on_live: Called in the step in which they turn live.
            unlimited: However much it is.

        Raises:
            Unrecoverable, Unavailable: as `CatchUp.run` says.
            ConnectionLost: the connection ended.
        """

        def send(batch: list[StoredPublication]) -> None:
            before_first()
            self._send(batch)
            self.delivered_offset = batch[-1].offset
            self._metrics.replayed.inc(len(batch))

        def go_live(live_from: int) -> None:
            before_first()
            self.go_live(live_from)
            on_live()

        await self._catch_up.run(
            self.subscriptions.keys(),
            offset,
            epoch,
            send=send,
            drained=self._drained,
            go_live=go_live,
            admit=admit,
            unlimited=unlimited,
        )

    def finish(self, missed: list[StoredPublication]) -> None:
        """Send all that was missed, in the step in which it is that, and turn live."""
        if missed:
            self._send(missed)
            self._metrics.replayed.inc(len(missed))
        self.go_live(self._catch_up.position + 1)

    async def send_newest(self, channel: ChannelName, count: int) -> int:
        """Send the channel's last publications; return the offset from which to `run`.

        Raises:
            Unrecoverable, Unavailable: as `CatchUp.newest` says.
            ConnectionLost: the connection ended.
        """
        return await self._catch_up.newest(channel, count, send=self._send, drained=self._drained)

    def go_live(self, live_from: int) -> None:
        """In the step in which nothing before ``live_from`` is missing."""
        for subscription in self.subscriptions.values():
            subscription.live_from = live_from

    def _send(self, batch: list[StoredPublication]) -> None:
        for channel, group in groupby(batch, attrgetter("channel")):
            subscription = self.subscriptions[channel]
            if subscription.is_over:
                continue
            run, encode = list(group), subscription.encode
            frames = self._encodings.of(encode, run, partial(self._frames, encode, run))
            if frames:
                self.connection.send(Frame(frames))

    def _frames(self, encode: Format, run: list[StoredPublication]) -> bytes:
        """Some may have been encoded before, for who came back from another offset."""
        if len(run) > 1:
            each = (self._encodings.of(encode, [one], partial(_frame, encode, one)) for one in run)
            return b"".join(each)
        return _frame(encode, run[0])

    async def _drained(self) -> None:
        await self.connection.until_drained()
        self._look_for_end()

    def _look_for_end(self) -> None:
        if not self.connection.is_open:
            raise ConnectionLost


class SlowConsumer(Recovery):
    """Subscriptions that missed something live, until they are live again."""

    _lost: Reason | None = None
    _newest_only: frozenset[ChannelName] = frozenset()
    _watching: tuple[Subscription, ...] = ()
    _live_from: Mapping[ChannelName, int] = {}
    """What each was live from: beyond `delivered_offset` if its client came from a gateway that was
    ahead of this one."""

    def begin(self, *, newest_only: frozenset[ChannelName]) -> None:
        """From now on nothing comes live.

        Args:
            newest_only: Channels without history. They are not read back: of what was missed the
                newest publication stands for all.
        """
        subscriptions = self.subscriptions.values()
        self._newest_only = newest_only
        self._watching = tuple(each for each in subscriptions if each.watches)
        self._live_from = {each.channel: each.live_from for each in subscriptions}
        self.delivered_offset = max(
            self.delivered_offset, min(self._live_from.values(), default=0) - 1
        )
        for subscription in subscriptions:
            subscription.live_from = CATCHING_UP
            subscription.watches = False
        self._metrics.lagging.inc()

    async def run_to_live(
        self,
        *,
        on_hole: Callable[[Collection[Subscription], Reason], None],
        on_live: Callable[[Collection[Subscription]], None],
    ) -> None:
        """Catch up, and be live again.

        Args:
            on_hole: Told in which of them something that was missed can't be had, and why.
            on_live: Called in the step in which they turn live, with those that hear again who
                comes and goes.

        Raises:
            ConnectionLost: the connection ended.
        """

        def live_again() -> None:
            watching = _not_over(self._watching)
            for subscription in watching:
                subscription.watches = True
            on_live(watching)

        await self._drained()
        while not self.is_live:
            try:
                if self._lost is not None:  # its offset may exist, and be another, in a new stream
                    raise Unrecoverable(self._lost)
                await self.run(self.delivered_offset, None, on_live=live_again, unlimited=True)
            except Unrecoverable as hole:
                on_hole(_not_over(self.subscriptions.values()), hole.reason)
                self._lost, self._live_from = None, {}
                self.delivered_offset = self._catch_up.position
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)  # the transport's deadline goes on
                self._look_for_end()

    def start_over(self, reason: Reason) -> None:
        """The stream's offsets began anew, or some are lost to everybody here."""
        self._lost = reason

    def go_live(self, live_from: int) -> None:
        for channel, subscription in self.subscriptions.items():
            subscription.live_from = max(live_from, self._live_from.get(channel, 0))

    def _send(self, batch: list[StoredPublication]) -> None:
        super()._send([each for each in batch if self._stands_for_itself(each)])

    def _stands_for_itself(self, publication: StoredPublication) -> bool:
        offset, channel, *_ = publication
        if offset < self._live_from.get(channel, 0):
            return False
        return channel not in self._newest_only or self._catch_up.is_newest(channel, offset)


def _not_over(subscriptions: Iterable[Subscription]) -> list[Subscription]:
    return [each for each in subscriptions if not each.is_over]


def _frame(encode: Format, publication: StoredPublication) -> bytes:
    try:
        return encode(publication) or b""
    except BadPublication:  # as for those who were live
        return b""
