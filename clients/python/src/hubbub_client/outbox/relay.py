"""The relay: moves committed messages from the outbox to the bus, or to a gateway.

Batch after batch, by the one process that has the lease.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from hubbub_client.beside import beside
from hubbub_client.cancellation import end_if_cancelled
from hubbub_client.log_events import LogEvent
from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.outbox.batch import BatchResult, relay_batch
from hubbub_client.outbox.destination import Destination
from hubbub_client.outbox.held_up import HeldUp
from hubbub_client.outbox.lease import Lease
from hubbub_client.outbox.limits import RelayLimits
from hubbub_client.sql.database import (
    DatabaseUnavailable,
    Sessions,
    place_of,
    reason_of,
    use_write_ahead_log,
)

log = logging.getLogger(__name__)

WRITE_AHEAD_SECONDS = 5
"""How long SQLite's file may be in use by others, until it stays as it is."""


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


async def prepare(sessions: Sessions) -> None:
    """Look at the database once, so that who starts a relay is told at once what is wrong.

    On SQLite readers and the writer stop waiting for each other, and the file remembers it. A
    database that is away is not wrong: the relay waits for it.

    Raises:
        DBAPIError: the tables are not there, or not as they must be.
    """
    with suppress(DatabaseUnavailable):
        await outbox_rows.check_tables(sessions)
        if sessions.engine.dialect.name == "sqlite":
            await use_write_ahead_log(sessions.engine, WRITE_AHEAD_SECONDS)


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

    Once the body has begun, the relay begins anew after whatever happens, and logs it: nobody would
    notice that a part of an application has stopped.

    Args:
        engine: Of the application, or one on its database.
        destination: From `to_bus` or `to_gateway`.
        wake: From `wake_after_commit`; without it rows are found within `limits.idle_seconds`.

    Raises:
        DBAPIError: before the body, as of `prepare`.
    """
    sessions = Sessions(engine, readers=engine)
    limits = limits or RelayLimits()
    await prepare(sessions)

    async def relay() -> None:
        while True:
            try:
                await run_relay(
                    sessions, destination, wake or asyncio.Event(), limits=limits, metrics=metrics
                )
            except Exception:  # whatever it is, it is told
                log.exception(LogEvent("outbox_relay_begins_anew"))
                end_if_cancelled()
            await asyncio.sleep(limits.failed_seconds)

    async with beside(relay()):
        yield


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
        self._has_lease: bool | None = None
        self._held_up = HeldUp(limits)
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
                log.warning(
                    LogEvent(
                        "outbox_database_away",
                        error=str(error),
                        reason=reason_of(error.__cause__ or error),
                        database=place_of(self._sessions.engine.url),
                    )
                )
                end_if_cancelled()
                await self._back_off()

    async def release_lease(self) -> None:
        if not self._has_lease:
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
        newly_held_up = self._note_progress(result)
        if newly_held_up and not result.has_moved:
            await self._back_off()  # the destination may be away, and all others would fail, too
            return
        self._backoff_seconds = 0.0
        if result.read < self._limits.batch_rows and not result.out_of_time:
            await self._idle()

    async def _hold_lease(self) -> bool:
        held = await self._lease.hold()
        if held and not self._has_lease:
            log.info(LogEvent("outbox_lease_taken"))
        elif self._has_lease and not held:
            log.info(LogEvent("outbox_lease_lost"))
        elif self._has_lease is None:
            until = self._lease.others_until
            log.info(LogEvent("outbox_lease_held_by_another", until=str(until)))
        self._has_lease = held
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
                    held_up=self._held_up,
                    start_seconds=max(0.0, self._lease.renewal_seconds),
                )
        except TimeoutError:
            log.warning(LogEvent("outbox_lease_ran_out"))
            return None

    async def _idle(self) -> None:
        until_due = self._held_up.seconds_until_due
        seconds = min(self._limits.idle_seconds, self._lease.renewal_seconds, until_due)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()

    async def _back_off(self) -> None:
        limits = self._limits
        self._backoff_seconds = min(
            max(limits.first_backoff_seconds, self._backoff_seconds * 2),
            limits.max_backoff_seconds,
        )
        await asyncio.sleep(self._backoff_seconds)

    def _note_progress(self, result: BatchResult) -> bool:
        """Note what is held up and what goes on; return whether any is held up that was not.

        A reason is logged once for all that it holds up, not at every try.
        """
        held_up, is_new = self._held_up, False
        held_up.release(result.went_on)
        for aggregate, reason in result.held_up.items():
            if reason not in held_up.reasons:
                log.warning(LogEvent("outbox_held_up", aggregate=aggregate, reason=reason))
            is_new |= held_up.hold(aggregate, reason, others_go_on=bool(result.sent))
        if held_up.aggregates and self._held_up_since is None:
            self._held_up_since = time.monotonic()
        elif not held_up.aggregates and self._held_up_since is not None:
            seconds = time.monotonic() - self._held_up_since
            log.info(LogEvent("outbox_goes_on", held_up_seconds=round(seconds, 1)))
            self._held_up_since = None
        return is_new

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
