"""This node's lease: its entries count as long as the lease is renewed.

The lease is written before the first entry. Each renewal names the sequence that it replaces, and
the bus refuses it if that is not the last one. So an expired lease never comes back: a node that
was away for too long takes a new name and writes all its entries anew.

A node that stops neither removes its entries nor ends its lease. Its users are reconnecting to
other gateways, and everybody would see them leave and come back. Instead it renews the lease once
more, for so short a time that with the hold after the expiry it lasts as long as the usual grace.
A user who is on another gateway by then was never seen to leave; others leave as if they had
closed the tab. The process may exit at once after that renewal.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from gateway.presence.limits import PresenceLimits
from gateway.presence.records import (
    EXPECTED_SEQUENCE,
    LAST_LEASE_BODY,
    LEASE_BODY,
    LeaseRecord,
    LeaseState,
    NodeId,
    lease_subject,
    ttl,
)
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.errors import BusUnavailable, MessageRejected

log = structlog.get_logger(__name__)


class NodeLease:
    """Takes a lease and renews it, and takes a new one when it is lost."""

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
        """The name under which entries may be written now."""
        self._sequence = 0
        self._renewed_at = 0.0
        self._lost = asyncio.Event()
        self._releasing = asyncio.Event()
        self._released = asyncio.Event()

    @property
    def in_force(self) -> bool:
        """Whether there is a lease that was renewed in time."""
        age = time.monotonic() - self._renewed_at
        return self.node is not None and age < self._limits.lease_seconds

    def observe(self, record: LeaseRecord) -> None:
        """The follower has delivered a lease of any node."""
        if record.key.node != self.node:
            return
        if record.state in (LeaseState.LIVE, LeaseState.LEAVING):
            # perhaps a renewal whose ack was lost
            self._sequence = max(self._sequence, record.sequence)
        else:
            self.lose("it has expired")

    def lose(self, reason: str) -> None:
        """Let `run` take a new lease under a new name."""
        if not self._lost.is_set():
            log.warning("presence_lease_lost", node=self.node, reason=reason)
            self._lost.set()

    async def run(self) -> None:
        """Hold a lease until cancelled, or until `release` has shortened it."""
        while not self._releasing.is_set():
            self._lost.clear()
            node = await self._acquire()
            if node is None:
                break
            if self._releasing.is_set():  # under which nothing will be written
                await self._renew(node)
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
        self._released.set()

    async def release(self, deadline_seconds: float) -> None:
        """Shorten the lease, and wait until `run` has returned."""
        self._releasing.set()
        with suppress(TimeoutError):  # the lease expires by itself, later
            async with asyncio.timeout(deadline_seconds):
                await self._released.wait()

    async def _acquire(self) -> NodeId | None:
        """Take a lease under a new name. After a failure try another: it may have been stored.

        None if it is to be released before there is one.
        """
        pause = self._limits.retry_seconds
        while not self._releasing.is_set():
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
        return None

    async def _renew(self, node: NodeId) -> None:
        pause = self._limits.renew_seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._releasing.wait()
            releasing = self._releasing.is_set()
            seconds = self._limits.leave_seconds if releasing else self._limits.lease_seconds
            try:
                body = LAST_LEASE_BODY if releasing else LEASE_BODY
                await self._write(node, seconds, replacing=self._sequence, body=body)
            except BusUnavailable as unavailable:
                log.info("presence_renewal_failed", node=node, reason=str(unavailable))
                pause = self._limits.retry_seconds
            except MessageRejected as rejected:
                # Either the lease has expired, or an earlier try was stored and its ack was lost.
                # `observe` finds out which, unless the lease's marker has expired too.
                if time.monotonic() - self._renewed_at > self._limits.lease_seconds:
                    self.lose(str(rejected))
                    return
                pause = self._limits.retry_seconds
            else:
                pause = self._limits.renew_seconds
                if releasing:
                    return
            if releasing:
                await asyncio.sleep(pause)

    async def _write(
        self, node: NodeId, seconds: float, *, replacing: int, body: bytes = LEASE_BODY
    ) -> None:
        began_at = time.monotonic()
        stored = await self._publisher.publish(
            lease_subject(node),
            body,
            message_id=f"{node}:lease:{secrets.token_hex(8)}",
            deadline_seconds=self._limits.renew_seconds,
            ttl=ttl(seconds),
            headers={EXPECTED_SEQUENCE: str(replacing)},
        )
        self._sequence = max(self._sequence, stored.offset)
        self._renewed_at = began_at
