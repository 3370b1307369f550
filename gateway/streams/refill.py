"""After a start: what a ring would hold if its gateway had been there before.

Clients that come back to a gateway that was restarted missed what was published meanwhile, each of
them something else: rooms, and channels of their own. It is read back once, whatever its channel,
so that hardly anybody has to ask the stream.
"""

from dataclasses import dataclass

import structlog

from gateway.streams.feed import Feed
from hubbub_client.contracts.channels import BadChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import RT_PUB, channel_of
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.errors import BusUnavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RefillLimits:
    """How much is read at a time."""

    span: int = 500
    """Of offsets."""
    batch_count: int = 250
    batch_bytes: int = 512 * 1024


async def refill(feed: Feed, stream: StreamReader, limits: RefillLimits | None = None) -> None:
    """Read back from where the ring begins, until it is full or the stream ends.

    Without an answer, or one from a replica that lags, it is left as it is.
    """
    await feed.until_caught_up()
    try:
        while await _read_span(feed, stream, limits or RefillLimits()):
            pass
    except BusUnavailable as unavailable:
        log.info("ring_not_refilled", reason=str(unavailable))
    else:
        log.info("ring_refilled", publications=len(feed.ring))


async def _read_span(feed: Feed, stream: StreamReader, limits: RefillLimits) -> bool:
    """Put what is before the ring into it; return whether to go on."""
    ring, resets = feed.ring, feed.resets
    end = min(ring.floor, feed.position)
    begin = max(end - limits.span, 0)
    found: list[StoredPublication] = []
    at = begin
    while at < end:
        batch = await stream.batch(
            {"seq": at + 1, "batch": limits.batch_count, "max_bytes": limits.batch_bytes}
        )
        if not batch.messages:
            return False
        for message in batch.messages:
            at = message.sequence
            if at <= end:
                try:
                    channel = channel_of(message.subject.removeprefix(RT_PUB))
                except BadChannelName:
                    continue  # as when it comes live
                found.append(StoredPublication(at, channel, message.payload, message.time))
    state = await stream.state()
    is_same = feed.resets == resets and state.epoch == feed.epoch
    if not is_same or end != min(ring.floor, feed.position):
        return False
    first = max(begin + 1, state.first)  # what was before may have been removed meanwhile
    if first > end:
        return False
    kept = [each for each in found if each.offset >= first]
    return ring.extend_back(first - 1, kept) and first == begin + 1 and begin > 0
