"""A durable consumer of events: what one process of it does.

All processes of one name share the consumer, and each event goes to one of them. It is acknowledged
once its handler has returned. If the handler raises, the event comes again after a pause, up to a
number of times; then, or if it can't be read, it is told as a failed event and only then settled.
So an event is handled at least once, or there is a failed event, however often a process or a
server dies.

Processes of different versions may run at the same time, and handle different events. What the bus
gives out to them is all that any of them handles; one that can't handle an event leaves it to the
others. So no process takes away what it doesn't know, and each sees from time to time that what it
handles is there.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from hubbub_client.bus.failures import FAILED, envelope_of_failure, reason_of
from hubbub_client.bus.handlers import CannotHandle, Handlers
from hubbub_client.bus.limits import ConsumerLimits
from hubbub_client.cancellation import is_cancelled
from hubbub_client.contracts.subjects import event_subject
from hubbub_client.jetstream.api import Config, ConsumerInfo, JetStreamApi, nanoseconds
from hubbub_client.jetstream.consumers import Ensured, ensure_consumer
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.work_queue import Job, WorkQueue, open_work_queue
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, MessageRejected

log = logging.getLogger(__name__)

STREAM = "EVENTS"
CROWDED = 0.8
"""Of the events that may be unsettled."""

Begin = Literal["new", "all"]
"""Where a consumer begins that the bus does not know: with what is published from then on, or with
all that the stream holds."""


class Consumer:
    """One process of a consumer, while it has a connection."""

    def __init__(
        self,
        bus: Bus,
        publisher: Publisher,
        handlers: Handlers,
        *,
        name: str,
        begin: Begin,
        limits: ConsumerLimits,
        ready: asyncio.Event,
    ) -> None:
        """
        Args:
            ready: Set once the bus knows the consumer, so that no later event is missed.
        """
        self._bus = bus
        self._api = JetStreamApi(bus)
        self._publisher = publisher
        self._handlers = handlers
        self._name = name
        self._begin = begin
        self._limits = limits
        self._ready = ready
        self._reasons: dict[int, str] = {}
        """Why events failed that could not be told yet, by their sequence."""
        self._is_crowded = False
        self._epoch = ""
        """Of the stream in which the floor is."""
        self._floor = 0
        """Up to there all was settled, or not ours, when it was last noted."""
        self._noted_subjects: list[str] = []
        """What all processes of the consumer handle, as it was then."""

    async def run(self) -> None:
        """Handle events until cancelled; then let the handlers under way end.

        Neither a handler that fails nor a lost bus ends it.
        """
        await self._until_ensured()
        async with (
            open_work_queue(
                self._bus, STREAM, self._name, self._limits.queue, pinned=False
            ) as queue,
            asyncio.TaskGroup() as group,
        ):
            looking = group.create_task(self._look())
            taking = group.create_task(self._take(queue, group))
            try:
                await taking
            finally:
                looking.cancel()
                taking.cancel()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.stop_seconds):
                        await queue.stop()
                        queue.return_waiting()
                        await queue.until_unsettled_below(1)

    async def _take(self, queue: WorkQueue, group: asyncio.TaskGroup) -> None:
        max_handlers = self._limits.max_handlers
        while True:
            await queue.until_unsettled_below(max_handlers)
            try:
                jobs = await queue.take(max_handlers - queue.unsettled)
            except BusUnavailable as unavailable:
                log.warning(
                    LogEvent("consumer_waits", consumer=self._name, reason=str(unavailable))
                )
                await asyncio.sleep(self._limits.retry_seconds)
                await self._until_ensured()  # it may be lost
            else:
                for job in jobs:
                    group.create_task(self._work_on(job))

    async def _work_on(self, job: Job) -> None:
        """Settle the job, unless this is cancelled."""
        limits = self._limits
        try:
            if job.deliveries > limits.max_deliveries:  # and no failure of a handler was stored
                unknown = "never settled: its processes died, or the bus was away"
                raise CannotHandle(self._reasons.get(job.sequence, unknown))
            async with _as_failure_if_cancelled(), asyncio.timeout(limits.handler_seconds):
                await self._handlers.handle(job.payload, job.subject, deliveries=job.deliveries)
        except CannotHandle as error:
            await self._give_up(job, str(error))
        except Exception as error:
            is_last = job.deliveries >= limits.max_deliveries
            pause = 0.0 if is_last else limits.pause_seconds(job.deliveries)
            log.exception(
                LogEvent(
                    "event_handler_failed",
                    consumer=self._name,
                    subject=job.subject,
                    sequence=job.sequence,
                    deliveries=job.deliveries,
                    again_in_seconds=None if is_last else round(pause, 1),
                )
            )
            if is_last:
                await self._give_up(job, reason_of(error))
            else:
                job.nak(delay_seconds=pause)
        else:
            job.ack()

    async def _give_up(self, job: Job, reason: str) -> None:
        """Tell that the event failed; only then it is settled."""
        reason = reason[: self._limits.max_reason_chars]
        log.error(
            LogEvent(
                "event_given_up",
                consumer=self._name,
                subject=job.subject,
                sequence=job.sequence,
                reason=reason,
            )
        )
        if job.subject.endswith(f".{FAILED}"):  # it would be told again and again
            job.term()
            return
        envelope = envelope_of_failure(
            job, self._name, reason, max_bytes=self._bus.max_payload // 2
        )
        refusals = self._bus.refusals
        try:
            await self._publisher.publish(
                event_subject(self._name, FAILED),
                envelope.model_dump_json().encode(),
                message_id=envelope.id,
                deadline_seconds=self._limits.publish_seconds,
            )
        except (BusUnavailable, MessageRejected) as error:
            refused = self._bus.not_allowed if self._bus.refusals > refusals else None
            why = refused or str(error)
            log.warning(LogEvent("failed_event_not_stored", consumer=self._name, reason=why))
            self._remember(job.sequence, reason)
            job.nak(delay_seconds=self._limits.longest_pause_seconds)
        else:
            self._reasons.pop(job.sequence, None)
            job.term()

    def _remember(self, sequence: int, reason: str) -> None:
        """For its next delivery, if that is to this process."""
        self._reasons[sequence] = reason
        while len(self._reasons) > self._limits.max_unsettled:
            del self._reasons[next(iter(self._reasons))]

    async def _until_ensured(self) -> None:
        """Make the consumer if there is none, however long the bus is away."""
        said = ""
        while True:
            await self._bus.until_connected()
            try:
                await self._ensure()
            except BusUnavailable as unavailable:
                reason = self._bus.not_allowed or str(unavailable)
                if reason != said:
                    log.warning(
                        LogEvent("consumer_cannot_begin", consumer=self._name, reason=reason)
                    )
                said = reason
                await asyncio.sleep(self._limits.retry_seconds)
            else:
                self._ready.set()
                return

    async def _ensure(self) -> None:
        epoch = (await self._api.stream_info(STREAM)).state.epoch
        found = await self._api.consumer_info(STREAM, self._name)

        async def beginning() -> Config:
            return self._beginning(epoch)

        known = _subjects_of(found) if found else self._noted_subjects
        subjects = self._handlers.subjects(known)
        done = await ensure_consumer(
            self._api, STREAM, self._config(subjects), found=found, beginning=beginning
        )
        if done is not Ensured.NOTHING:
            log.info(LogEvent(f"consumer_{done.value}", consumer=self._name))
        self._epoch = epoch
        await self._note()

    async def _look(self) -> None:
        """Look from time to time how far the consumer is, for the case that the bus loses it."""
        while True:
            await asyncio.sleep(self._limits.look_seconds)
            with suppress(BusUnavailable):  # the next pull will find that out
                found = await self._note()
                if found is not None and self._lacks_subjects(found):
                    await self._ensure()

    async def _note(self) -> ConsumerInfo | None:
        found = await self._api.consumer_info(STREAM, self._name)
        if found is not None:
            self._floor = found.ack_floor
            self._noted_subjects = _subjects_of(found)
            self._warn_if_crowded(found.unsettled)
        return found

    def _warn_if_crowded(self, unsettled: int) -> None:
        """Say once that soon no more events will come."""
        is_crowded = unsettled >= CROWDED * self._limits.max_unsettled
        if is_crowded and not self._is_crowded:
            at_most = self._limits.max_unsettled
            log.warning(
                LogEvent(
                    "consumer_crowded", consumer=self._name, unsettled=unsettled, at_most=at_most
                )
            )
        self._is_crowded = is_crowded

    def _lacks_subjects(self, found: ConsumerInfo) -> bool:
        """Whether another process has taken away what we handle, or added what was given up."""
        subjects = _subjects_of(found)
        return self._handlers.subjects(subjects) != sorted(subjects)

    def _beginning(self, epoch: str) -> Config:
        if not self._epoch:
            return {"deliver_policy": self._begin}
        if epoch != self._epoch:  # all in this stream is new to us
            return {"deliver_policy": "all"}
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": self._floor + 1}

    def _config(self, subjects: list[str]) -> Config:
        limits = self._limits
        return {
            "durable_name": self._name,
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(limits.ack_wait_seconds),
            "max_ack_pending": limits.max_unsettled,
            "max_deliver": -1,  # the server would drop an event without a word
            "replay_policy": "instant",
            "filter_subjects": subjects,
            "inactive_threshold": nanoseconds(limits.forget_seconds),
        }


def _subjects_of(found: ConsumerInfo) -> list[str]:
    """What the bus gives out to the consumer."""
    config = found.config
    single = [config["filter_subject"]] if "filter_subject" in config else []
    return config.get("filter_subjects") or single


@asynccontextmanager
async def _as_failure_if_cancelled() -> AsyncGenerator[None]:
    """A handler that lets what it waits for be cancelled has failed; we are not cancelled."""
    try:
        yield
    except asyncio.CancelledError as cancelled:
        if is_cancelled():
            raise
        raise RuntimeError("what the handler waited for was cancelled") from cancelled
