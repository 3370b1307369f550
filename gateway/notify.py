"""Turns events into publications: one in each recipient's personal channel and each named channel.

All gateways share one durable consumer, and one of them handles its events until another takes
over. Publications of a channel keep the order of their events: each waits for the one before it,
and is tried until it is stored. (What a gateway had in hand when it died comes again, later.) A
publication's id is made from event and channel, and the stream stores it once within its dedupe
window. If an event may be older than that, the channel is first searched for the id. No type of
event is known here.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError

from gateway.streams.history import History
from gateway.streams.work_queue import Job, WorkQueue, open_work_queue
from shared.contracts.channels import BadChannelName, parse_channel, personal_channel
from shared.contracts.events import Envelope
from shared.contracts.ids import ChannelName
from shared.contracts.publications import Publication
from shared.jetstream.clock import Clock, our_clock
from shared.jetstream.publisher import Publisher
from shared.jetstream.streams import NOTIFY_CONSUMER, RT_DEDUPE_SECONDS
from shared.jetstream.subjects import event_message_id, publication_subject
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable, MessageRejected

log = structlog.get_logger(__name__)

_BEFORE_ALL_EVENTS = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NotifyLimits:
    """How much is done at a time, and how long it may take."""

    publish_seconds: float
    max_events: int = 50
    """At the same time, on this gateway."""
    max_publications: int = 50
    """Of one event at the same time."""
    wait_seconds: float = 5.0
    """For one request for work."""
    retry_seconds: float = 0.5
    """Between two tries."""
    working_seconds: float = 3.0
    """How often the bus is told what is in hand; well below its acknowledgement time."""
    dedupe_seconds: float = RT_DEDUPE_SECONDS
    """The window in which the RT stream knows an id again."""
    clock_slack_seconds: float = 60.0
    """By how much the clocks of services and servers may differ."""


@dataclass(frozen=True, slots=True)
class NotifyCounters:
    """What is to be counted; each is called once for one."""

    published: Callable[[], None] = lambda: None
    found: Callable[[], None] = lambda: None
    """Publications that had been made before."""
    unreadable: Callable[[], None] = lambda: None
    refused: Callable[[], None] = lambda: None
    """Publications that can never be stored."""
    retried: Callable[[], None] = lambda: None


class Notifier:
    """This gateway's share of the notifying."""

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
        self._last: dict[ChannelName, asyncio.Event] = {}
        """Of each channel, set when the last publication that was begun there is done."""

    async def run(self) -> None:
        """Handle events until cancelled; no event ends it, and no absence of the bus."""
        limits = self._limits
        self._last.clear()  # a job that was cancelled before it began has left its turns behind
        async with (
            open_work_queue(
                self._bus,
                "EVENTS",
                NOTIFY_CONSUMER,
                wait_seconds=limits.wait_seconds,
                working_seconds=limits.working_seconds,
            ) as queue,
            asyncio.TaskGroup() as group,
        ):
            while True:
                await queue.until_in_hand_below(limits.max_events)
                for job in await self._take(queue, limits.max_events - queue.in_hand):
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
        """Take the event's turn in each of its channels; return the work that is to be run."""
        try:
            event, channels = _read(job.payload)
        except ValueError as error:
            log.error("event_unreadable", sequence=job.sequence, reason=str(error))
            self._counters.unreadable()
            job.terminate()
            return None
        turns = [self._take_turn(channel) for channel in channels]
        return self._handle(job, event, turns)

    def _take_turn(self, channel: ChannelName) -> "_Turn":
        before, through = self._last.get(channel), asyncio.Event()
        self._last[channel] = through
        return _Turn(channel, before, through)

    async def _handle(self, job: Job, event: Envelope, turns: list["_Turn"]) -> None:
        try:
            await self._publish(job, event, turns)
        except Exception:  # the other events have to go on
            log.exception("event_failed", event_id=event.id, type=event.type)
            self._counters.retried()
            job.retry(delay_seconds=self._limits.retry_seconds)
        else:
            job.ack()
        finally:
            for turn in turns:
                turn.through.set()
                if self._last.get(turn.channel) is turn.through:
                    del self._last[turn.channel]

    async def _publish(self, job: Job, event: Envelope, turns: list["_Turn"]) -> None:
        """Publish into every channel that has not had it."""
        payload = Publication(data=event.to_publication_data(), event_id=event.id).encode()
        # An outbox may send an event again after the stream forgot its id. To the consumer it is
        # new then, so the event's own time counts.
        happened_at = _moment(event)
        if job.stored_at is not None:
            happened_at = min(happened_at, job.stored_at)
        age_seconds = self._now() - happened_at.timestamp()
        # A time in the future means that a clock is wrong, theirs or ours: it may be old.
        is_recent = abs(age_seconds) <= self._limits.dedupe_seconds / 2
        may_be_repeated = job.deliveries > 1 or not is_recent
        look_since = happened_at - timedelta(seconds=self._limits.clock_slack_seconds)
        publication = _Due(event.id, payload, look_since)
        for begin in range(0, len(turns), self._limits.max_publications):
            async with asyncio.TaskGroup() as group:
                for turn in turns[begin : begin + self._limits.max_publications]:
                    group.create_task(self._publish_in_turn(publication, turn, may_be_repeated))

    async def _publish_in_turn(self, due: "_Due", turn: "_Turn", may_be_repeated: bool) -> None:
        if turn.before is not None:
            await turn.before.wait()  # bounded: that one ends stored, rejected or cancelled
        while not await self._publish_once(due, turn.channel, look=may_be_repeated):
            self._counters.retried()
            await asyncio.sleep(self._limits.retry_seconds)
            may_be_repeated = True  # unanswered, it may be stored, and its id forgotten by now
        turn.through.set()

    async def _publish_once(self, due: "_Due", channel: ChannelName, *, look: bool) -> bool:
        """Return whether nothing is left to do for the channel."""
        message_id = event_message_id(due.event_id, channel)
        try:
            if look and await self._history.holds(channel, message_id, since=due.look_since):
                self._counters.found()
                return True
            await self._publisher.publish(
                publication_subject(channel),
                due.payload,
                message_id=message_id,
                deadline_seconds=self._limits.publish_seconds,
            )
        except BusUnavailable:
            return False
        except MessageRejected as rejected:
            log.error("notification_refused", event_id=due.event_id, reason=str(rejected))
            self._counters.refused()
            return True
        self._counters.published()
        return True


class _Turn(NamedTuple):
    """An event's place in the order of one channel."""

    channel: ChannelName
    before: asyncio.Event | None
    through: asyncio.Event


class _Due(NamedTuple):
    """What an event has to say in each of its channels."""

    event_id: str
    payload: bytes
    look_since: datetime


def _moment(event: Envelope) -> datetime:
    """When it happened, with a time zone, and not before any event can have."""
    moment = event.time if event.time.tzinfo else event.time.replace(tzinfo=UTC)
    return max(moment, _BEFORE_ALL_EVENTS)


def _read(payload: bytes) -> tuple[Envelope, list[ChannelName]]:
    """The event, and each of its channels once.

    Raises:
        ValueError: it is no event, or a channel's name is malformed.
    """
    try:
        event = Envelope.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from error
    if "id" not in event.model_fields_set:
        raise ValueError("id: missing")  # a default would be another one at each redelivery
    named: Iterable[ChannelName] = (personal_channel(user_id) for user_id in event.recipients)
    try:
        named = [*named, *(parse_channel(channel) for channel in event.channels)]
    except BadChannelName as error:
        raise ValueError("channels: not a channel's name") from error
    return event, list(dict.fromkeys(named))
