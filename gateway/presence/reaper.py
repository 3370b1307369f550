"""Ends the leases that expired, and removes their nodes' entries from the stream.

Every gateway tries, since any of them may die; the end of a lease names the marker that it
replaces, so the bus takes one of them. The end is a message of the stream and not a timer in each
gateway, so all gateways see the same users leave at the same sequence.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable

import structlog

from gateway.presence.lease import EXPECTED_SEQUENCE
from gateway.presence.limits import PresenceLimits
from gateway.presence.records import entries_of, lease_subject
from gateway.presence.table import PresenceTable
from gateway.presence.writer import REMOVAL_HEADERS, ttl
from shared.contracts.ids import NodeId
from shared.jetstream.api import JetStreamApi
from shared.jetstream.publisher import Publisher
from shared.jetstream.stream_reader import StreamReader
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable, MessageRejected

log = structlog.get_logger(__name__)


class LeaseReaper:
    """Looks at the table every tick."""

    def __init__(
        self,
        bus: Bus,
        publisher: Publisher,
        limits: PresenceLimits,
        *,
        table: PresenceTable,
        is_current: Callable[[], bool],
        mark_stale: Callable[[], None],
    ) -> None:
        """
        Args:
            is_current: Whether the table is as the stream is; nothing is done while it isn't.
            mark_stale: Called when the table seems not to be.
        """
        self._reader = StreamReader(bus, "PRES", answer_seconds=limits.answer_seconds)
        self._api = JetStreamApi(bus, timeout_seconds=limits.answer_seconds)
        self._publisher = publisher
        self._limits = limits
        self._table = table
        self._is_current = is_current
        self._mark_stale = mark_stale
        self._due: dict[NodeId, float] = {}
        self._refused: set[NodeId] = set()

    async def run(self) -> None:
        """Until cancelled; what fails is tried again."""
        while True:
            await asyncio.sleep(self._limits.tick_seconds)
            if not self._is_current():
                self._due.clear()  # their waits begin anew when the table is current
                continue
            try:
                await self._tick()
            except BusUnavailable as unavailable:
                log.info("presence_burial_failed", reason=str(unavailable))

    async def _tick(self) -> None:
        expired = self._table.expired_leases()
        orphaned = self._table.orphaned_nodes()
        now = time.monotonic()
        # Not all gateways at once: mostly the first has done it before the second looks.
        hold = self._limits.hold_seconds * random.uniform(1, 1.25)
        waits = {
            **dict.fromkeys(orphaned, self._limits.lease_seconds),
            **dict.fromkeys(expired, hold),
        }
        self._due = {node: self._due.get(node, now + wait) for node, wait in waits.items()}
        self._refused &= expired.keys()
        for node in [node for node, due in self._due.items() if due <= now]:
            if node in expired:
                await self._end(node, expired[node])
            else:
                await self._sweep(node)
            self._due.pop(node, None)

    async def _end(self, node: NodeId, marker: int) -> None:
        try:
            await self._publisher.publish(
                lease_subject(node),
                b"",
                message_id=f"{node}:end:{secrets.token_hex(8)}",
                deadline_seconds=self._limits.write_seconds,
                ttl=ttl(self._limits.tombstone_seconds),
                headers={**REMOVAL_HEADERS, EXPECTED_SEQUENCE: str(marker)},
            )
        except MessageRejected:
            # Another gateway ended it, and if that one did not purge, the node is orphaned. If the
            # table shows the lease at the next try too, its marker has expired without a trace.
            if node in self._refused:
                self._mark_stale()
            self._refused.add(node)
            return
        log.info("presence_lease_ended", node=node)
        await self._purge(node)

    async def _sweep(self, node: NodeId) -> None:
        """Remove entries without a lease: their node writes no more, or wrote too late."""
        subject = lease_subject(node)
        found = await self._reader.last_of(subject)
        if found is not None and found.payload:
            return  # a lease: its live copy is on the way
        await self._purge(node)
        self._table.forget(node)

    async def _purge(self, node: NodeId) -> None:
        purged = await self._api.purge_stream("PRES", subject=entries_of(node))
        log.info("presence_entries_purged", node=node, entries=purged)
