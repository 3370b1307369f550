"""Turns events into publications: in each recipient's personal channel and each named channel.

All gateways share one durable consumer; one of them handles its events until another takes over.
The publications of a channel keep the order of their events: each waits for the one before it, and
is tried again until it is stored. Only events that a gateway was handling when it died come later,
by redelivery. The message id of a publication is made from event and channel, so the stream stores
it once within its dedupe window. If an event may be older than that, the channel is searched for
the id first. All types of events are handled alike.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog

from gateway.streams.history import History
from hubbub_client.contracts.channels import BadChannelName, parse_channel, personal_channel
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import event_message_id, publication_subject
from hubbub_client.jetstream.clock import Clock, our_clock
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.work_queue import Job, WorkQueue, WorkQueueLimits, open_work_queue
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, MessageRejected
from shared.jetstream.stream_configs import NOTIFY_CONSUMER, RT_DEDUPE_SECONDS

log = structlog.get_logger(__name__)

_BEFORE_ALL_EVENTS = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NotifyLimits:
    """How much is done at a time, and for how long."""

    publish_seconds: float
    max_events: int = 50
    """Handled at the same time on this gateway."""
    max_publications: int = 50
    """Stored at the same time for one event."""
    retry_seconds: float = 0.5
    """Between two tries."""
    queue: WorkQueueLimits = field(default_factory=WorkQueueLimits)
    dedupe_seconds: float = RT_DEDUPE_SECONDS
    """How long the RT stream recognises a message id."""
    clock_slack_seconds: float = 60.0
    """By how much the clocks of services and servers may differ."""


@dataclass(frozen=True, slots=True)
class NotifyCounters:
    """Each is called once for one publication, event or try."""

    published: Callable[[], None] = lambda: None
    found: Callable[[], None] = lambda: None
    """Publications that were stored before."""
    unreadable: Callable[[], None] = lambda: None
    refused: Callable[[], None] = lambda: None
    """Publications that can never be stored."""
    retried: Callable[[], None] = lambda: None


class Notifier:
    """Handles the events of the shared consumer while it is pinned to this gateway."""

    def __init__(
        self,
        bus: Bus,
        publisher: Publisher,
        history: History,
        *,
        counters: NotifyCounters | None = None,
        limits: NotifyLimits,
        now: Clock = our_clock,
    ) -> None:
        self._bus = bus
        self._publisher = publisher
        self._history = history
        self._counters = counters or NotifyCounters()
        self._limits = limits
        self._now = now
        self._last_done: dict[ChannelName, asyncio.Event] = {}
        """For each channel: set when the last publication that was begun there is done."""

    async def run(self) -> None:
        """Handle events until cancelled. Neither a bad event nor a lost bus ends it."""
        limits = self._limits
        self._last_done.clear()  # an earlier run may have been cancelled before a job began
        async with (
            open_work_queue(self._bus, "EVENTS", NOTIFY_CONSUMER, limits.queue) as queue,
            asyncio.TaskGroup() as group,
        ):
            while True:
                await queue.until_unsettled_below(limits.max_events)
                for job in await self._take(queue, limits.max_events - queue.unsettled):
                    work = self._begin(job)
                    if work is not None:
                        group.create_task(work)

    async def _take(self, queue: WorkQueue, limit: int) -> list[Job]:
        try:
            return await queue.take(limit)
        except BusUnavailable as unavailable:
            log.warning("notify_waits", reason=str(unavailable))
        await asyncio.sleep(self._limits.retry_seconds)
        return []

    def _begin(self, job: Job) -> Coroutine[Any, Any, None] | None:
        """Reserve the event's turn in each of its channels; return the work that is to be run."""
        try:
            event, channels = _read(job.payload)
        except ValueError as error:
            log.error("event_unreadable", sequence=job.sequence, reason=str(error))
            self._counters.unreadable()
            job.term()
            return None
        turns = [self._reserve_turn(channel) for channel in channels]
        return self._handle(job, event, turns)

    def _reserve_turn(self, channel: ChannelName) -> "_Turn":
        before, done = self._last_done.get(channel), asyncio.Event()
        self._last_done[channel] = done
        return _Turn(channel, before, done)

    async def _handle(self, job: Job, event: Envelope, turns: list["_Turn"]) -> None:
        try:
            await self._publish(job, event, turns)
        except Exception:  # it must not stop the other events
            log.exception("event_failed", event_id=event.id, type=event.type)
            self._counters.retried()
            job.nak(delay_seconds=self._limits.retry_seconds)
        else:
            job.ack()
        finally:
            for turn in turns:
                turn.done.set()
                if self._last_done.get(turn.channel) is turn.done:
                    del self._last_done[turn.channel]

    async def _publish(self, job: Job, event: Envelope, turns: list["_Turn"]) -> None:
        """Publish into every channel that does not have it yet."""
        payload = Publication(data=event.to_publication_data(), event_id=event.id).encode()
        # An outbox may send an event again after the EVENTS stream has forgotten its id. It comes
        # as a new one then, and only its own time shows that it is old.
        happened_at = _moment(event)
        if job.stored_at is not None:
            happened_at = min(happened_at, job.stored_at)
        age_seconds = self._now() - happened_at.timestamp()
        # A time in the future means that a clock is wrong, theirs or ours. The event may be old.
        is_recent = abs(age_seconds) <= self._limits.dedupe_seconds / 2
        may_be_stored = job.deliveries > 1 or not is_recent
        search_since = happened_at - timedelta(seconds=self._limits.clock_slack_seconds)
        notification = _Notification(event.id, payload, search_since)
        for begin in range(0, len(turns), self._limits.max_publications):
            async with asyncio.TaskGroup() as group:
                for turn in turns[begin : begin + self._limits.max_publications]:
                    group.create_task(self._publish_in_turn(notification, turn, may_be_stored))

    async def _publish_in_turn(
        self, notification: "_Notification", turn: "_Turn", may_be_stored: bool
    ) -> None:
        if turn.before is not None:
            await turn.before.wait()  # set when that one is stored, rejected or cancelled
        while not await self._publish_once(notification, turn.channel, search=may_be_stored):
            self._counters.retried()
            await asyncio.sleep(self._limits.retry_seconds)
            may_be_stored = True  # perhaps only the ack was lost, and its id may be forgotten soon
        turn.done.set()

    async def _publish_once(
        self, notification: "_Notification", channel: ChannelName, *, search: bool
    ) -> bool:
        """Try once; return whether the publication is stored or can never be."""
        message_id = event_message_id(notification.event_id, channel)
        since = notification.search_since
        try:
            if search and await self._history.holds(channel, message_id, since=since):
                self._counters.found()
                return True
            await self._publisher.publish(
                publication_subject(channel),
                notification.payload,
                message_id=message_id,
                deadline_seconds=self._limits.publish_seconds,
            )
        except BusUnavailable:
            return False
        except MessageRejected as rejected:
            log.error("notification_refused", event_id=notification.event_id, reason=str(rejected))
            self._counters.refused()
            return True
        self._counters.published()
        return True


class _Turn(NamedTuple):
    """An event's turn in the order of one channel."""

    channel: ChannelName
    before: asyncio.Event | None
    """Set when the publication before this one is done."""
    done: asyncio.Event


class _Notification(NamedTuple):
    """What is published into each channel of an event."""

    event_id: str
    payload: bytes
    search_since: datetime
    """If it was stored before, then not before this time."""


def _moment(event: Envelope) -> datetime:
    """The event's time, with a time zone, and late enough to subtract from."""
    moment = event.time if event.time.tzinfo else event.time.replace(tzinfo=UTC)
    return max(moment, _BEFORE_ALL_EVENTS)


def _read(payload: bytes) -> tuple[Envelope, list[ChannelName]]:
    """Parse an event; return it and its channels, each once.

    Raises:
        ValueError: it is not an event, or a channel's name is malformed.
    """
    event = Envelope.read(payload)
    named: Iterable[ChannelName] = (personal_channel(user_id) for user_id in event.recipients)
    try:
        named = [*named, *(parse_channel(channel) for channel in event.channels)]
    except BadChannelName as error:
        raise ValueError("channels: not a channel's name") from error
    return event, list(dict.fromkeys(named))
