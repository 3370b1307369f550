"""Events become publications: one for each recipient, on the personal channel, and each channel.

All gateways share one durable consumer, so each event is handled by one of them, and by
another if that one dies over it. A publication bears an id made from event and channel,
which the stream stores once within its dedupe window. What may be repeated after that
window is first looked up in the channel by that id. No type of event is known here.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import ValidationError

from gateway.streams.history import History
from shared.bus.client import Bus
from shared.bus.errors import BusUnavailable, MessageRejected
from shared.bus.publisher import Publisher
from shared.bus.streams import NOTIFY_CONSUMER
from shared.bus.subjects import event_message_id, publication_subject
from shared.bus.work_queue import Job, WorkQueue, open_work_queue
from shared.channels import BadChannelName, parse_channel, personal_channel
from shared.events import Envelope
from shared.ids import ChannelName
from shared.publications import Publication

log = structlog.get_logger(__name__)

_BEFORE_ALL_EVENTS = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NotifyLimits:
    """How much is done at a time, and how long it may take."""

    max_events: int = 50
    """At the same time, on this gateway."""
    max_publications: int = 50
    """Of one event at the same time."""
    publish_seconds: float = 5.0
    wait_seconds: float = 5.0
    """For one request for work."""
    retry_seconds: float = 0.5
    """After the first failure of an event, doubled with each further one."""
    max_retry_seconds: float = 30.0
    dedupe_seconds: float = 300.0
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
        limits: NotifyLimits | None = None,
    ) -> None:
        self._bus = bus
        self._publisher = publisher
        self._history = history
        self._counters = counters or NotifyCounters()
        self._limits = limits or NotifyLimits()

    async def run(self) -> None:
        """Handle events until cancelled; no event and no failure ends it."""
        slots = asyncio.Semaphore(self._limits.max_events)
        async with (
            open_work_queue(
                self._bus, "EVENTS", NOTIFY_CONSUMER, wait_seconds=self._limits.wait_seconds
            ) as queue,
            asyncio.TaskGroup() as group,
        ):
            while True:
                for job in await self._take(queue):
                    await slots.acquire()
                    task = group.create_task(self._handle(job))
                    task.add_done_callback(lambda _task: slots.release())

    async def _take(self, queue: WorkQueue) -> list[Job]:
        try:
            return await queue.take(self._limits.max_events)
        except BusUnavailable as unavailable:
            log.warning("notify_waits", reason=str(unavailable))
        except Exception:  # the top of the loop: it has to go on
            log.exception("notify_failed")
        await asyncio.sleep(self._limits.retry_seconds)
        return []

    async def _handle(self, job: Job) -> None:
        try:
            event, channels = _read(job.payload)
        except ValueError as error:
            log.error("event_unreadable", sequence=job.sequence, reason=str(error))
            self._counters.unreadable()
            job.terminate()
            return
        try:
            is_done = await self._publish(job, event, channels)
        except asyncio.CancelledError:
            job.retry(delay_seconds=0)  # another gateway goes on, and not only when time is up
            raise
        except Exception:  # the top of the job: the others have to go on
            log.exception("event_failed", event_id=event.id, type=event.type)
            is_done = False
        if is_done:
            job.ack()
        else:
            self._counters.retried()
            delay = self._limits.retry_seconds * 2 ** min(job.deliveries - 1, 16)
            job.retry(delay_seconds=min(delay, self._limits.max_retry_seconds))

    async def _publish(self, job: Job, event: Envelope, channels: list[ChannelName]) -> bool:
        """Publish into every channel that has not had it; return whether all have it now."""
        payload = Publication(data=event.to_publication_data(), event_id=event.id).encode()
        # An outbox may tell of an event again long after the stream forgot its id; such an
        # event is not redelivered but new to the consumer, hence the event's own time.
        happened_at = min(_moment(event), job.stored_at)
        age_seconds = (datetime.now(UTC) - happened_at).total_seconds()
        may_be_repeated = job.deliveries > 1 or age_seconds > self._limits.dedupe_seconds / 2
        look_since = (
            happened_at - timedelta(seconds=self._limits.clock_slack_seconds)
            if may_be_repeated
            else None
        )
        for begin in range(0, len(channels), self._limits.max_publications):
            if begin:
                job.still_working()
            some = channels[begin : begin + self._limits.max_publications]
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._publish_once(event.id, channel, payload, look_since))
                    for channel in some
                ]
            if not all(task.result() for task in tasks):
                return False
        return True

    async def _publish_once(
        self, event_id: str, channel: ChannelName, payload: bytes, look_since: datetime | None
    ) -> bool:
        """Return whether nothing is left to do for the channel."""
        message_id = event_message_id(event_id, channel)
        try:
            if look_since is not None and await self._history.holds(
                channel, message_id, since=look_since
            ):
                self._counters.found()
                return True
            await self._publisher.publish(
                publication_subject(channel),
                payload,
                message_id=message_id,
                deadline_seconds=self._limits.publish_seconds,
            )
        except BusUnavailable:
            return False
        except MessageRejected as rejected:
            log.error("notification_refused", event_id=event_id, reason=str(rejected))
            self._counters.refused()
            return True
        self._counters.published()
        return True


def _moment(event: Envelope) -> datetime:
    """When it happened, in a form that can be reckoned with, whoever wrote it."""
    moment = event.time if event.time.tzinfo else event.time.replace(tzinfo=UTC)
    return max(moment, _BEFORE_ALL_EVENTS)


def _read(payload: bytes) -> tuple[Envelope, list[ChannelName]]:
    """The event, and each channel once that is to hear of it.

    Raises:
        ValueError: it is no event, or names what is no channel.
    """
    try:
        event = Envelope.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from error
    if "id" not in event.model_fields_set:
        raise ValueError("id: missing")  # one made up here would be another one each time
    named: Iterable[ChannelName] = (personal_channel(user_id) for user_id in event.recipients)
    try:
        named = [*named, *(parse_channel(channel) for channel in event.channels)]
    except BadChannelName as error:
        raise ValueError("channels: not a channel's name") from error
    return event, list(dict.fromkeys(named))
