"""Ends expired leases, and removes their nodes' entries from the stream.

Every gateway tries, since any of them may die. The end of a lease names the marker that it
replaces, so the bus stores it once. It is a message of the stream, and not a timer in each
gateway, so that all gateways see the same users leave at the same sequence.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable

import structlog

from gateway.presence.limits import PresenceLimits
from gateway.presence.records import (
    EXPECTED_SEQUENCE,
    REMOVAL_HEADERS,
    NodeId,
    entries_of,
    lease_subject,
    ttl,
)
from gateway.presence.table import PresenceTable
from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, MessageRejected

log = structlog.get_logger(__name__)


class LeaseReaper:
    """Looks for expired leases and orphaned entries in the table, every tick."""

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
            is_current: Whether the table is the same as the stream; else nothing is done.
            mark_stale: Called when the table seems to differ from the stream.
        """
        self._reader = StreamReader(bus, "PRES", answer_seconds=limits.answer_seconds)
        self._api = JetStreamApi(bus, timeout_seconds=limits.answer_seconds)
        self._publisher = publisher
        self._limits = limits
        self._table = table
        self._is_current = is_current
        self._mark_stale = mark_stale
        self._due: dict[NodeId, float] = {}
        """When to act on each node, by the monotonic clock."""
        self._refused: set[NodeId] = set()
        """Nodes whose lease the bus did not let us end."""
        self._unpurged: set[NodeId] = set()
        """Nodes whose lease we tried to end: it may have ended, and their entries be there."""

    async def run(self) -> None:
        """Run until cancelled; what fails is tried again."""
        while True:
            await asyncio.sleep(self._limits.tick_seconds)
            if not self._is_current():
                self._due.clear()  # all waits begin anew once the table is current
                continue
            try:
                await self._tick()
            except BusUnavailable as unavailable:
                log.info("presence_burial_failed", reason=str(unavailable))

    async def _tick(self) -> None:
        expired = self._table.expired_leases()
        orphaned = self._table.orphaned_nodes()
        now = time.monotonic()
        # A random wait, so that usually one gateway is done before the next one tries.
        hold = self._limits.hold_seconds * random.uniform(1, 1.25)
        waits = {
            **dict.fromkeys(orphaned, self._limits.lease_seconds),
            **dict.fromkeys(expired, hold),
        }
        self._due = {node: self._due.get(node, now + wait) for node, wait in waits.items()}
        self._refused &= expired.keys()
        for node in [node for node, due in self._due.items() if due <= now]:
            if node in expired:
                await self._end_lease(node, expired[node])
            else:
                await self._purge_orphan(node)
            self._due.pop(node, None)
        for node in self._unpurged - expired.keys():
            await self._purge_orphan(node)

    async def _end_lease(self, node: NodeId, marker: int) -> None:
        self._unpurged.add(node)
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
            # Another gateway has ended it. If the table still has the lease at the next try, the
            # marker has expired without a message.
            if node in self._refused:
                self._mark_stale()
            self._refused.add(node)
            return
        log.info("presence_lease_ended", node=node)
        await self._purge(node)
        self._unpurged.discard(node)

    async def _purge_orphan(self, node: NodeId) -> None:
        """Remove entries without a lease: the node has stopped, or wrote them too late."""
        subject = lease_subject(node)
        found = await self._reader.last_of(subject)
        if found is None or not found.payload:  # else its lease's live copy is on the way
            await self._purge(node)
            self._table.forget(node)
        self._unpurged.discard(node)

    async def _purge(self, node: NodeId) -> None:
        purged = await self._api.purge_stream("PRES", subject=entries_of(node))
        log.info("presence_entries_purged", node=node, entries=purged)
