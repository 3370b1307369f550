"""Everything that is published, as it happens: from the RT stream to the ring and the listeners."""

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache

import structlog

from gateway.streams.ring import Ring
from hubbub_client.contracts.channels import BadChannelName, parse_channel
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import RT_LIVE, RT_PUB, channel_of
from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.nats.client import Bus
from shared.jetstream.follower import Follower
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.position import RETENTION

log = structlog.get_logger(__name__)

_CHECKED_TOKENS = 16_384  # some 4 MiB; of more channels than that some are checked again


class Reason(StrEnum):
    """Why what was missed can't be replayed."""

    EPOCH = "epoch"
    """The offset belongs to another life of the stream."""
    AHEAD = "ahead"
    """The offset was never given."""
    TOO_OLD = "too_old"
    """The stream no longer holds what came next."""
    TOO_MANY = "too_many"
    """It would be more than the limit."""
    MALFORMED = "malformed"
    """What was named is no offset."""


class Unrecoverable(Exception):
    """There may be a hole after the client's offset, so it has to be told."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


FanOut = Callable[[StoredPublication], None]
"""Gets each publication, once and in the stream's order."""


class Feed:
    """Where this gateway stands in the RT stream, and what it saw last."""

    def __init__(
        self,
        bus: Bus,
        *,
        ring: Ring,
        fan_out: FanOut,
        on_reset: Callable[[Reason], None] = lambda _reason: None,
        on_skipped: Callable[[int], None] = lambda _count: None,
        on_filled: Callable[[int], None] = lambda _count: None,
        on_undecodable: Callable[[int, str], None] = lambda _offset, _reason: None,
        after: Follower | None = None,
        limits: FollowerLimits | None = None,
    ) -> None:
        """All callbacks are synchronous.

        Args:
            ring: Gets each publication, for those who come back.
            on_reset: The position has jumped, for the given reason: listeners may have missed
                something that can't be had any more.
            on_skipped: So many publications were removed from the stream before they came here.
            on_filled: So many were read from the stream, as no live copy had come.
            on_undecodable: The message at this offset was skipped, since its subject names no
                channel: why not.
            after: Once stale, deliver nothing until that follower is verified.
        """
        self.ring = ring
        self.resets = 0
        """How often the position has jumped; who waited for something looks whether it grew."""
        self.last_reset = Reason.EPOCH
        self._fan_out = fan_out
        self._on_reset = on_reset
        self._on_skipped = on_skipped
        self._on_undecodable = on_undecodable
        self._follower = Follower(
            bus,
            "RT",
            RT_PUB,
            RT_LIVE,
            deliver=self._deliver,
            on_reset=self._reset,
            on_skipped=self._skipped,
            on_filled=on_filled,
            after=after,
            limits=limits,
        )

    @property
    def epoch(self) -> str:
        """Which life of the stream the position belongs to; empty before the first contact."""
        return self._follower.epoch

    @property
    def position(self) -> int:
        """The offset through which everything was fanned out; 0 before the first contact."""
        return self._follower.position

    @property
    def caught_up(self) -> bool:
        return self._follower.caught_up

    @property
    def lag(self) -> int:
        """How many offsets are known to come after the position."""
        return self._follower.lag

    async def until_caught_up(self) -> None:
        await self._follower.until_caught_up()

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        await self._follower.run()

    def _deliver(self, message: StoredMessage) -> None:
        try:
            channel = channel_named_by(message.subject)
        except BadChannelName as error:
            self._on_undecodable(message.sequence, str(error))
            return
        publication = StoredPublication(message.sequence, channel, message.payload, message.time)
        self.ring.append(publication)
        self._fan_out(publication)

    def _reset(self, reason: str) -> None:
        self.ring.clear()
        self.resets += 1
        self.last_reset = Reason.TOO_OLD if reason == RETENTION else Reason.EPOCH
        self._on_reset(self.last_reset)

    def _skipped(self, first: int, last: int) -> None:
        log.warning("publications_skipped", first=first, last=last)
        self._on_skipped(last - first + 1)


@lru_cache(maxsize=_CHECKED_TOKENS)
def channel_named_by(token: str) -> ChannelName:
    """The channel that a publication is for, by what stands behind the prefix of its subject.

    Raises:
        BadChannelName: none.
    """
    if "." in token:
        raise BadChannelName("more than one token")
    return parse_channel(channel_of(token))
