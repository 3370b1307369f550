"""Messages that the bus has lost go out again, under the same ids.

Lost is what was sent into an earlier epoch of the stream, or has a sequence beyond the stream's
end. What the consumer is known to have handled does not go out again.
"""

import asyncio
import logging
from dataclasses import dataclass

from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.sql.database import DatabaseUnavailable, Sessions, transaction

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often the stream is checked."""


@dataclass(frozen=True, slots=True)
class WatchedStream:
    """The stream that an outbox is for, and the consumer that handles its messages."""

    bus: Bus
    stream: str
    consumer: str


async def watch_for_losses(
    sessions: Sessions, to: WatchedStream, *, look_seconds: float = LOOK_SECONDS
) -> None:
    """Note what the bus loses, until cancelled; the relay sends it again.

    A bus that does not answer, or does not allow the question, holds nothing up.
    """
    is_known = True
    while True:
        try:
            await note_losses(sessions, to)
        except (BusUnavailable, DatabaseUnavailable) as away:
            if is_known:
                log.warning(LogEvent("outbox_losses_unknown", stream=to.stream, reason=str(away)))
            is_known = False
        else:
            is_known = True
        await asyncio.sleep(look_seconds)


async def note_losses(sessions: Sessions, to: WatchedStream) -> bool:
    """Note how far the consumer is, or a loss; return whether it was a loss.

    Processes may do it side by side: one of them notes it.

    Raises:
        BusUnavailable, DatabaseUnavailable: nothing is known.
    """
    noted = await outbox_rows.noted(sessions, to.stream)
    # Before the stream is asked: it only grows.
    newest = await outbox_rows.newest_sequences(sessions)
    api = JetStreamApi(to.bus)
    state = (await api.stream_info(to.stream)).state
    consumer = await api.consumer_info(to.stream, to.consumer)
    floor = 0 if consumer is None else consumer.ack_floor
    if noted is None:
        async with transaction(sessions) as db:
            await outbox_rows.note(db, to.stream, epoch=state.epoch, floor=floor)
        return False
    if noted.epoch != state.epoch:
        lost_above = noted.floor
    elif newest.highest > state.last:  # rolled back, as by a backup
        lost_above = max(noted.floor, state.last)
    elif any(sequence > noted.floor for sequence in newest.repeated):
        lost_above = noted.floor  # rolled back, unknown how far, and filled again since
    else:
        if floor > noted.floor:
            await outbox_rows.note_floor(sessions, noted, floor)
        return False
    lost = await outbox_rows.note_loss(
        sessions, noted, epoch=state.epoch, floor=floor, lost_above=lost_above
    )
    if lost:
        log.warning(LogEvent("outbox_lost_by_the_bus", stream=to.stream, above=lost_above))
    return lost
