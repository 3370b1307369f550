"""The relay: moves committed messages from the outbox to the bus, or to a gateway.

A message goes out at least once, under the same id each time, so that one is kept.
Messages of one aggregate leave in order, each after the answer to the one before;
different aggregates go side by side.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from hubbub_client.errors import Unavailable
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.errors import MessageRejected
from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.outbox.destination import Destination
from hubbub_client.outbox.lease import Lease
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import DatabaseUnavailable, Sessions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """How much at a time, how long, how often."""

    batch_rows: int = 200
    idle_seconds: float = 1.0
    """How often to look for rows of other processes; our own wake the relay at once."""
    publish_seconds: float = 3.0
    """How long one message may wait for the bus's answer before the batch gives up on it."""
    lease_seconds: float = 10.0
    """How long after a relay's death another takes over."""
    first_backoff_seconds: float = 0.1
    max_backoff_seconds: float = 2.0
    measure_seconds: float = 5.0
    """How often depth and age are measured."""
    lost_seconds: float = 2.0
    """How often to look for a noted loss."""
    lost_rows: int = 1000
    """At most so many are marked as unsent in one transaction."""
    retention_seconds: float = 24 * 3600
    """How long sent rows are kept, to send them again after a loss."""
    prune_seconds: float = 60.0
    prune_rows: int = 1000
    """At most this many are deleted in one transaction."""
    stop_seconds: float = 1.0
    """When stopped: to mark what was sent, and again to give up the lease."""

    def __post_init__(self) -> None:
        if self.publish_seconds >= self.lease_seconds * 2 / 3:
            raise ValueError("a message may wait no longer than two thirds of the lease")


class RelayMetrics(Protocol):
    """What a relay reports to whoever counts it."""

    def count_published(self, rows: int, /) -> object: ...

    def count_poisoned(self, rows: int, /) -> object: ...

    def measured(self, depth: int, oldest: datetime | None, /) -> object:
        """How many rows are unsent now, and since when the oldest."""


class Uncounted:
    """Metrics of a relay whom nobody counts."""

    def count_published(self, rows: int, /) -> None: ...

    def count_poisoned(self, rows: int, /) -> None: ...

    def measured(self, depth: int, oldest: datetime | None, /) -> None: ...


@dataclass(slots=True)
class BatchResult:
    """What became of one batch."""

    read: int = 0
    sent: dict[int, int] = field(default_factory=dict)
    """The sequence in the stream, by row position."""
    poisoned: dict[int, str] = field(default_factory=dict)
    held_up: bool = False
    """At least one aggregate could not continue; others may have."""

    @property
    def left(self) -> int:
        return self.read - len(self.sent) - len(self.poisoned)


async def relay_batch(
    sessions: Sessions,
    destination: Destination,
    *,
    limits: RelayLimits | None = None,
    start_seconds: float = math.inf,
) -> BatchResult:
    """Publish the oldest unsent rows, then mark the results.

    Nothing is published inside a transaction: while the bus is away, it would hold its locks.
    Rows that were published but not marked, for whatever reason, go out again under the same ids.

    Args:
        start_seconds: After this long no further row is started; the rest is for the next batch.
    """
    limits = limits or RelayLimits()
    start_until = time.monotonic() + start_seconds
    rows, life = await outbox_rows.oldest_unsent(sessions, limits.batch_rows)
    result = BatchResult(read=len(rows))

    async def mark() -> None:
        sent, poisoned = result.sent, result.poisoned
        await outbox_rows.mark(sessions, life=life, sent=sent, poisoned=poisoned)

    try:
        async with asyncio.TaskGroup() as group:
            for chain in _by_aggregate(rows):
                group.create_task(
                    _publish_in_order(
                        chain,
                        destination,
                        result,
                        publish_seconds=limits.publish_seconds,
                        start_until=start_until,
                    )
                )
    except BaseException:  # cancelled, or the lease ran out: mark what was sent
        with suppress(Exception):
            async with asyncio.timeout(limits.stop_seconds):
                await mark()
        raise
    await mark()
    return result


def _by_aggregate(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    chains: dict[str, list[OutboxRow]] = {}
    for row in rows:
        chains.setdefault(row.aggregate, []).append(row)
    return list(chains.values())


async def _publish_in_order(
    chain: Sequence[OutboxRow],
    destination: Destination,
    result: BatchResult,
    *,
    publish_seconds: float,
    start_until: float,
) -> None:
    """Publish rows of one aggregate, one at a time: retries of pipelined ones would reorder."""
    for row in chain:
        if time.monotonic() >= start_until:
            return
        try:
            stored = await destination.publish(
                row.subject, row.payload, message_id=row.id, deadline_seconds=publish_seconds
            )
        except Unavailable:
            result.held_up = True
            return
        except MessageRejected as rejected:
            # Alert on this: somebody must look at the row. The aggregate's other rows continue.
            log.error(
                LogEvent(
                    "outbox_row_poisoned",
                    message_id=row.id,
                    subject=row.subject,
                    aggregate=row.aggregate,
                    err_code=rejected.err_code,
                    error=rejected.description,
                )
            )
            result.poisoned[row.position] = str(rejected)
        except Exception:  # a bug may hold up this aggregate, but not the others
            log.exception(LogEvent("outbox_row_failed", message_id=row.id, subject=row.subject))
            result.held_up = True
            return
        else:
            result.sent[row.position] = stored.offset


async def publish_at_once(
    sessions: Sessions, destination: Destination, message_id: str, *, deadline_seconds: float
) -> None:
    """Publish a committed row now, without the lease, if it is not sent already.

    Only for the single row of an aggregate, since no order is kept. The relay may publish it as
    well; the bus drops the duplicate by its id.

    Raises:
        Unavailable: no answer by the deadline; the relay tries further.
        MessageRejected: the bus will never take it.
    """
    rows, life = await outbox_rows.find(sessions, message_id)
    for row in rows:
        if row.sent_at is not None:
            return
        stored = await destination.publish(
            row.subject, row.payload, message_id=row.id, deadline_seconds=deadline_seconds
        )
        sent = {row.position: stored.offset}
        with suppress(DatabaseUnavailable):  # then the relay marks it
            await outbox_rows.mark(sessions, life=life, sent=sent, poisoned={})


async def run_relay(
    sessions: Sessions,
    destination: Destination,
    wake: asyncio.Event,
    *,
    may_prune: Callable[[], Awaitable[bool]] | None = None,
    stream: str | None = None,
    limits: RelayLimits | None = None,
    metrics: RelayMetrics | None = None,
) -> None:
    """Relay until cancelled, waiting for a bus or database that is away. It may be run again.

    Args:
        may_prune: Whether our clock can be trusted to tell what was sent long ago, as
            `TrustedClock.is_right` says; by default it is. It must be where a `stream` is watched,
            which may need rows again.
        stream: If given, what is noted as lost by it goes out again, before anything new. All
            rows must be for it. See `hubbub_client.outbox.losses`.
        wake: From `wake_after_commit`.
    """
    metrics = metrics or Uncounted()
    limits = limits or RelayLimits()
    relay = _Relay(sessions, destination, wake, may_prune or _always, stream, limits, metrics)
    try:
        await relay.run()
    finally:
        await relay.release_lease()


@asynccontextmanager
async def relaying(
    engine: AsyncEngine,
    destination: Destination,
    *,
    wake: asyncio.Event | None = None,
    limits: RelayLimits | None = None,
    metrics: RelayMetrics | None = None,
) -> AsyncGenerator[None]:
    """Relay beside the body. Any number of processes may: one of them at a time does it.

    Args:
        engine: Of the application, or one on its database.
        destination: From `to_bus` or `to_gateway`.
        wake: From `wake_after_commit`; without it rows are found within `limits.idle_seconds`.

    Raises:
        Exception: the relay can't go on, as where there are no tables. That ends the body.
    """
    sessions = Sessions(engine, readers=engine)
    relay = run_relay(
        sessions, destination, wake or asyncio.Event(), limits=limits, metrics=metrics
    )
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(relay)
            try:
                yield
            except Exception as error:
                failure = error  # raised below, as the group would wrap it
            finally:
                task.cancel()
    except ExceptionGroup as group:
        failure = failure or group.exceptions[0]  # of the relay, the only task
    if failure is not None:
        raise failure


async def _always() -> bool:
    return True


class _Relay:
    def __init__(
        self,
        sessions: Sessions,
        destination: Destination,
        wake: asyncio.Event,
        may_prune: Callable[[], Awaitable[bool]],
        stream: str | None,
        limits: RelayLimits,
        metrics: RelayMetrics,
    ) -> None:
        self._sessions = sessions
        self._destination = destination
        self._wake = wake
        self._may_prune = may_prune
        self._stream = stream
        self._limits = limits
        self._metrics = metrics
        self._lease = Lease(sessions, seconds=limits.lease_seconds)
        self._held = False
        self._held_up_since: float | None = None
        self._backoff_seconds = 0.0
        self._measure_at = 0.0
        self._lost_at = 0.0
        self._prune_at = 0.0

    async def run(self) -> None:
        while True:
            try:
                await self._step()
            except DatabaseUnavailable as error:
                log.warning(LogEvent("outbox_database_away", error=str(error)))
                await self._back_off()

    async def release_lease(self) -> None:
        if not self._held:
            return
        with suppress(Exception):  # then it expires
            async with asyncio.timeout(self._limits.stop_seconds):
                await self._lease.release()

    async def _step(self) -> None:
        await self._measure()
        if not await self._hold_lease():
            # Waking it wouldn't help: the holder of the lease finds the rows by looking.
            await asyncio.sleep(self._limits.lease_seconds / 3)
            return
        if await self._unsend_some():
            return  # renew the lease, then mark the rest
        self._wake.clear()  # before reading: a later commit causes another step
        result = await self._relay()
        if result is None:
            return
        self._metrics.count_published(len(result.sent))
        self._metrics.count_poisoned(len(result.poisoned))
        await self._prune()
        self._note_progress(held_up=result.held_up)
        if result.held_up:
            await self._back_off()
        else:
            self._backoff_seconds = 0.0
            if result.left == 0 and result.read < self._limits.batch_rows:
                await self._idle()

    async def _hold_lease(self) -> bool:
        held = await self._lease.hold()
        if held != self._held:
            log.info(LogEvent("outbox_lease_taken" if held else "outbox_lease_lost"))
        self._held = held
        return held

    async def _unsend_some(self) -> bool:
        """Mark lost rows as unsent; return whether there may be more."""
        if self._stream is None or time.monotonic() < self._lost_at:
            return False
        limits = self._limits
        try:
            async with asyncio.timeout(self._lease.remaining_seconds):
                unsent = await outbox_rows.unsend_lost(
                    self._sessions, self._stream, limits.lost_rows
                )
        except TimeoutError:
            log.warning(LogEvent("outbox_lease_ran_out"))
            return True
        if unsent:
            log.warning(LogEvent("outbox_sends_again", stream=self._stream, rows=unsent))
        if unsent == limits.lost_rows:
            return True
        self._lost_at = time.monotonic() + limits.lost_seconds
        return False

    async def _relay(self) -> BatchResult | None:
        """One batch, cancelled when the lease runs out; then None."""
        try:
            async with asyncio.timeout(self._lease.remaining_seconds):
                return await relay_batch(
                    self._sessions,
                    self._destination,
                    limits=self._limits,
                    start_seconds=max(0.0, self._lease.renewal_seconds),
                )
        except TimeoutError:
            log.warning(LogEvent("outbox_lease_ran_out"))
            return None

    async def _idle(self) -> None:
        seconds = max(0.0, min(self._limits.idle_seconds, self._lease.renewal_seconds))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _back_off(self) -> None:
        limits = self._limits
        self._backoff_seconds = min(
            max(limits.first_backoff_seconds, self._backoff_seconds * 2),
            limits.max_backoff_seconds,
        )
        await asyncio.sleep(self._backoff_seconds)

    def _note_progress(self, *, held_up: bool) -> None:
        """Log when relaying stops and when it goes on, not every try in between."""
        if held_up and self._held_up_since is None:
            self._held_up_since = time.monotonic()
            log.warning(LogEvent("outbox_held_up"))
        elif not held_up and self._held_up_since is not None:
            seconds = time.monotonic() - self._held_up_since
            log.info(LogEvent("outbox_goes_on", held_up_seconds=round(seconds, 1)))
            self._held_up_since = None

    async def _measure(self) -> None:
        if time.monotonic() < self._measure_at:
            return
        self._metrics.measured(*await outbox_rows.unsent(self._sessions))
        self._measure_at = time.monotonic() + self._limits.measure_seconds

    async def _prune(self) -> None:
        if time.monotonic() < self._prune_at:
            return
        limits = self._limits
        if not await self._may_prune():
            self._prune_at = time.monotonic() + limits.prune_seconds
            return
        older_than = datetime.now(UTC) - timedelta(seconds=limits.retention_seconds)
        pruned = await outbox_rows.prune(self._sessions, older_than, limits.prune_rows)
        if pruned < limits.prune_rows:  # else the next step deletes more
            self._prune_at = time.monotonic() + limits.prune_seconds
