"""This node's lease: the claim that its entries are true, which expires unless it is renewed.

The lease is written before the first entry. Each renewal names the sequence that it
replaces, and the bus refuses it otherwise; so a lease that has expired never comes back,
and a node that was away for too long takes a new name and announces everything anew.

A node that stops in order neither removes its entries nor ends its lease at once: its users are
reconnecting to other gateways, and everybody would see them leave and come. It renews its lease
for a last time, so short that with the hold after every expiry it makes up the usual grace. A
user who is on another gateway by then never left; one who isn't leaves after the grace, as by
closing the tab. The process may exit at once: nothing of this needs it.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from gateway.presence.limits import PresenceLimits
from gateway.presence.records import LeaseRecord, LeaseState, lease_subject
from gateway.presence.writer import ttl
from shared.contracts.ids import NodeId
from shared.jetstream.publisher import Publisher
from shared.nats.errors import BusUnavailable, MessageRejected

log = structlog.get_logger(__name__)

EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"

_BODY = b'{"v":1}'


class NodeLease:
    """Holds one lease after the other, for as long as `run` runs."""

    def __init__(
        self,
        publisher: Publisher,
        limits: PresenceLimits,
        *,
        on_held: Callable[[NodeId], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._publisher = publisher
        self._limits = limits
        self._on_held = on_held
        self._on_lost = on_lost
        self.node: NodeId | None = None
        """Whose entries we may write now."""
        self._sequence = 0
        self._renewed_at = 0.0
        self._lost = asyncio.Event()
        self._leaving = asyncio.Event()
        self._left = asyncio.Event()

    @property
    def in_force(self) -> bool:
        """Whether there is one, which has not run out for want of renewal."""
        age = time.monotonic() - self._renewed_at
        return self.node is not None and age < self._limits.lease_seconds

    def see(self, record: LeaseRecord) -> None:
        """The stream shows a lease."""
        if record.key.node != self.node:
            return
        if record.state is LeaseState.LIVE:  # perhaps a renewal whose answer got lost
            self._sequence = max(self._sequence, record.sequence)
        else:
            self.lose("it has expired")

    def lose(self, reason: str) -> None:
        """Take a new one, under a new name."""
        if not self._lost.is_set():
            log.warning("presence_lease_lost", node=self.node, reason=reason)
            self._lost.set()

    async def run(self) -> None:
        """Until cancelled, or until `withdraw` has shortened the lease."""
        while not self._leaving.is_set():
            self._lost.clear()
            node = await self._take()
            if self._leaving.is_set():
                break
            self.node = node
            self._on_held(node)
            try:
                async with asyncio.TaskGroup() as group:
                    renewing = group.create_task(self._renew(node))
                    losing = group.create_task(self._lost.wait())
                    await asyncio.wait({renewing, losing}, return_when=asyncio.FIRST_COMPLETED)
                    renewing.cancel()
                    losing.cancel()
            finally:
                self.node = None
                self._on_lost()
        self._left.set()

    async def withdraw(self, deadline_seconds: float) -> None:
        """Shorten the lease, after the last connection was closed; `run` ends by it."""
        self._leaving.set()
        if self.node is None:
            return
        with suppress(TimeoutError):  # the lease runs out by itself, later
            async with asyncio.timeout(deadline_seconds):
                await self._left.wait()

    async def _take(self) -> NodeId:
        """A lease under a fresh name; after an unknown outcome under another one."""
        pause = self._limits.retry_seconds
        while True:
            node = NodeId(secrets.token_hex(8))
            self._sequence = 0
            try:
                await self._write(node, self._limits.lease_seconds, replacing=0)
            except (BusUnavailable, MessageRejected) as failure:
                log.info("presence_lease_refused", reason=str(failure))
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._limits.max_retry_seconds)
            else:
                return node

    async def _renew(self, node: NodeId) -> None:
        pause = self._limits.renew_seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._leaving.wait()
            leaving = self._leaving.is_set()
            seconds = self._limits.leave_seconds if leaving else self._limits.lease_seconds
            try:
                await self._write(node, seconds, replacing=self._sequence)
            except BusUnavailable as unavailable:
                log.info("presence_renewal_failed", node=node, reason=str(unavailable))
                pause = self._limits.retry_seconds
            except MessageRejected as rejected:
                # Either it has expired, or an earlier try was stored and its answer got lost.
                # `see` tells which, unless the lease's marker has expired too.
                if time.monotonic() - self._renewed_at > self._limits.lease_seconds:
                    self.lose(str(rejected))
                    return
                pause = self._limits.retry_seconds
            else:
                pause = self._limits.renew_seconds
                if leaving:
                    return
            if leaving:
                await asyncio.sleep(pause)

    async def _write(self, node: NodeId, seconds: float, *, replacing: int) -> None:
        began_at = time.monotonic()
        stored = await self._publisher.publish(
            lease_subject(node),
            _BODY,
            message_id=f"{node}:lease:{secrets.token_hex(8)}",
            deadline_seconds=self._limits.renew_seconds,
            ttl=ttl(seconds),
            headers={EXPECTED_SEQUENCE: str(replacing)},
        )
        self._sequence = max(self._sequence, stored.offset)
        self._renewed_at = began_at
