"""What the bus lost of what was sent goes out again, under the same ids.

It lost what was sent into a life of the stream that is over, or to places beyond its end. What
its consumer is known to have handled by then does not go out again.
"""

from dataclasses import dataclass

import structlog

from shared.jetstream.api import JetStreamApi
from shared.nats.client import Bus
from shared.sql.database import Sessions, transaction
from shared.sql.outbox import rows as outbox_rows

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Destination:
    """The stream that an outbox is for, and whose work what is in it is."""

    bus: Bus
    stream: str
    consumer: str


async def send_again_what_is_lost(sessions: Sessions, to: Destination) -> int:
    """Make lost rows unsent, note how far the consumer is, and return how many were lost.

    Whoever calls holds the relay's lease, or others would mark rows meanwhile.

    Raises:
        BusUnavailable, DatabaseUnavailable: it is not known.
    """
    reached = await outbox_rows.newest_sequence(sessions)  # first: the stream only grows
    noted = await outbox_rows.noted(sessions, to.stream)
    api = JetStreamApi(to.bus)
    state = (await api.stream_info(to.stream)).state
    consumer = await api.consumer_info(to.stream, to.consumer)
    floor = 0 if consumer is None else consumer.ack_floor
    if noted is None:
        lost_above = None
    elif noted.epoch != state.epoch:
        lost_above = noted.floor
    elif reached > state.last:  # rolled back, as by a backup
        lost_above = max(noted.floor, state.last)
    elif floor > noted.floor:
        lost_above = None
    else:
        return 0
    async with transaction(sessions) as db:
        lost = 0 if lost_above is None else await outbox_rows.unsend(db, above=lost_above)
        await outbox_rows.note(db, to.stream, epoch=state.epoch, floor=floor)
    if lost_above is not None:
        log.warning("outbox_lost_by_the_bus", stream=to.stream, rows=lost)
    return lost
