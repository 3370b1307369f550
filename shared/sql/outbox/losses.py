"""What the bus lost of what was sent goes out again, under the same ids.

It lost what was sent into a life of the stream that is over, or to places beyond its end. What
its consumer is known to have handled by then does not go out again.
"""

import asyncio
from dataclasses import dataclass

import structlog

from shared.jetstream.api import JetStreamApi
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable
from shared.sql.database import DatabaseUnavailable, Sessions, transaction
from shared.sql.outbox import rows as outbox_rows

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""How often it is asked whether the bus still has what was sent."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The stream that an outbox is for, and whose work what is in it is."""

    bus: Bus
    stream: str
    consumer: str


async def watch_for_losses(
    sessions: Sessions, to: Destination, *, look_seconds: float = LOOK_SECONDS
) -> None:
    """Note what the bus loses, until cancelled; it is for the relay to send it again.

    A bus that gives no answer, or no right to ask, holds up nothing: the relay does not wait.
    """
    is_known = True
    while True:
        try:
            await note_losses(sessions, to)
        except (BusUnavailable, DatabaseUnavailable) as away:
            if is_known:
                log.warning("outbox_losses_unknown", stream=to.stream, reason=str(away))
            is_known = False
        else:
            is_known = True
        await asyncio.sleep(look_seconds)


async def note_losses(sessions: Sessions, to: Destination) -> bool:
    """Note how far the consumer is, or that what it had not handled is lost; return which.

    Processes may do it side by side: one of them notes it.

    Raises:
        BusUnavailable, DatabaseUnavailable: it is not known.
    """
    noted = await outbox_rows.noted(sessions, to.stream)
    places = await outbox_rows.newest_places(sessions)  # first: the stream only grows
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
    elif places.reached > state.last:  # rolled back, as by a backup
        lost_above = max(noted.floor, state.last)
    elif any(place > noted.floor for place in places.repeated):
        lost_above = noted.floor  # rolled back, who knows how far: others have the places already
    else:
        if floor > noted.floor:
            await outbox_rows.note_floor(sessions, noted, floor)
        return False
    lost = await outbox_rows.note_loss(
        sessions, noted, epoch=state.epoch, floor=floor, lost_above=lost_above
    )
    if lost:
        log.warning("outbox_lost_by_the_bus", stream=to.stream, above=lost_above)
    return lost
