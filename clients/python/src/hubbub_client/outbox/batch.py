"""One batch: the oldest unsent rows are published, and then marked.

A message goes out at least once, under the same id each time, so that one is kept.
Messages of one aggregate leave in order, each after the answer to the one before;
different aggregates go side by side.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hubbub_client.errors import Unavailable
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.errors import MessageRejected
from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.outbox.destination import Destination
from hubbub_client.outbox.held_up import HeldUp
from hubbub_client.outbox.limits import RelayLimits
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import DatabaseUnavailable, Sessions

log = logging.getLogger(__name__)


@dataclass(slots=True)
class BatchResult:
    """What became of one batch."""

    read: int = 0
    sent: dict[int, int] = field(default_factory=dict)
    """The sequence in the stream, by row position."""
    poisoned: dict[int, str] = field(default_factory=dict)
    held_up: dict[str, str] = field(default_factory=dict)
    """Why, by aggregate; others may have gone on."""
    went_on: frozenset[str] = frozenset()
    """Aggregates that were held up before this batch."""
    out_of_time: bool = False
    """Some rows are left for the next batch."""

    @property
    def left(self) -> int:
        return self.read - len(self.sent) - len(self.poisoned)

    @property
    def has_moved(self) -> bool:
        return bool(self.sent or self.poisoned)


async def relay_batch(
    sessions: Sessions,
    destination: Destination,
    *,
    limits: RelayLimits | None = None,
    held_up: HeldUp | None = None,
    start_seconds: float = math.inf,
) -> BatchResult:
    """Publish the oldest unsent rows, then mark the results.

    Nothing is published inside a transaction: while the bus is away, it would hold its locks.
    Rows that were published but not marked, for whatever reason, go out again under the same ids.

    Args:
        held_up: What is left out, but for what of it is due.
        start_seconds: After this long no further row is started; the rest is for the next batch.
    """
    limits = limits or RelayLimits()
    held_up = held_up or HeldUp(limits)
    start_until = time.monotonic() + start_seconds
    due = held_up.due()
    rows, life = await outbox_rows.oldest_unsent(
        sessions, limits.batch_rows, held_up=list(held_up.aggregates), due=due
    )
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
    tried = _tried(due, rows, limits.batch_rows)
    result.went_on = frozenset(tried - result.held_up.keys())
    return result


def _tried(due: Sequence[str], rows: Sequence[OutboxRow], limit: int) -> set[str]:
    """Which of the due aggregates this batch had all rows of, or some."""
    of_due = [row.aggregate for row in rows if row.aggregate in due]
    return set(due) if len(of_due) < limit else set(of_due)


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
            result.out_of_time = True
            return
        try:
            stored = await destination.publish(
                row.subject, row.payload, message_id=row.id, deadline_seconds=publish_seconds
            )
        except Unavailable as unavailable:
            result.held_up[row.aggregate] = str(unavailable)
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
        except Exception as bug:  # it may hold up this aggregate, but not the others
            log.exception(LogEvent("outbox_row_failed", message_id=row.id, subject=row.subject))
            result.held_up[row.aggregate] = type(bug).__name__
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
