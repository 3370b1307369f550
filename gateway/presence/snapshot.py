"""Reads the whole PRES stream into a new table."""

import asyncio

from gateway.presence.limits import PresenceLimits
from gateway.presence.records import ForeignRecord, read_record
from gateway.presence.table import PresenceTable
from hubbub_client.contracts.subjects import PRES_PUB
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable

_EVERYTHING = f"{PRES_PUB}>"


async def read_snapshot(bus: Bus, limits: PresenceLimits) -> tuple[PresenceTable, int]:
    """Read the stream in pages, up to the end that the leader reports after the first pass.

    Each page may come from another replica. An entry that is written anew between two pages moves
    to the end of the stream. It is in neither page if the last replica lags, but it lies before
    the leader's end, so nothing is missed by reading up to there.

    Returns:
        The table, and the last sequence that it includes.

    Raises:
        BusUnavailable: no answer in time.
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
            if record is not None and not isinstance(record, ForeignRecord):
                table.apply(record)
        if batch.messages and batch.pending:
            continue
        if end is None:
            end = (await reader.state()).last
        if position >= end:
            return table, position
        if batch.messages:
            continue
        # Either the last message was removed since, or the replica lags: ask the leader.
        if await reader.next_on_leader(_EVERYTHING, position + 1) is None:
            return table, end
        await asyncio.sleep(limits.stale_read_seconds)
