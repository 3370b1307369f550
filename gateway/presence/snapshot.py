"""Reads all of the PRES stream into a new table."""

import asyncio

from gateway.presence.limits import PresenceLimits
from gateway.presence.records import read_record
from gateway.presence.table import PresenceTable
from shared.jetstream.stream_reader import StreamReader
from shared.jetstream.subjects import PRES_PUB
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable

_EVERYTHING = f"{PRES_PUB}>"


async def read_snapshot(bus: Bus, limits: PresenceLimits) -> tuple[PresenceTable, int]:
    """Read the stream in pages, up to where it ended after the first reading.

    Each page may come from another replica. A message that moves to the stream's end between two
    pages is in neither if the last page's replica lags; but it lies before the end that the
    leader tells, so reading up to there misses nothing.

    Returns:
        The table, and the last sequence that it tells of.

    Raises:
        BusUnavailable: no answer.
    """
    try:
        async with asyncio.timeout(limits.snapshot_seconds):
            return await _read(bus, limits)
    except TimeoutError as error:
        raise BusUnavailable("the snapshot took too long") from error


async def _read(bus: Bus, limits: PresenceLimits) -> tuple[PresenceTable, int]:
    table, position, end = PresenceTable(), 0, None
    reader = StreamReader(bus, "PRES", answer_seconds=limits.answer_seconds)
    while True:
        batch = await reader.batch(
            {
                "seq": position + 1,
                "next_by_subj": _EVERYTHING,
                "batch": limits.snapshot_batch,
                "max_bytes": limits.snapshot_batch_bytes,
            }
        )
        for message in batch.messages:
            position = message.sequence
            name = message.subject.removeprefix(PRES_PUB)
            record = read_record(name, position, message.payload, message.headers)
            if record is not None:
                table.apply(record)
        if batch.messages and batch.pending:
            continue
        if end is None:
            end = (await reader.state()).last
        if position >= end:
            return table, position
        if batch.messages:
            continue
        # Either the end itself was removed since, or the replica lags: the leader knows.
        if await reader.next_on_leader(_EVERYTHING, position + 1) is None:
            return table, end
        await asyncio.sleep(limits.stale_read_seconds)
