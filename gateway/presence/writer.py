"""Writes this node's presence entries: compares what is wanted with what is written.

What is wanted is known at once and never lost; the bus may be away for any time. One write
per entry is in flight, and when it ends the entry is looked at again. So whatever happened
meanwhile, repeats and crossings included, ends in what is wanted. Neither an entry nor a
write costs a task or a timer: all that is due later lies in one heap, and the bus calls back.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import structlog

from gateway.presence.echoes import Echoes
from gateway.presence.limits import PresenceLimits
from gateway.presence.slot import Slot
from gateway.presence.subjects import EntryKey, Place, entry_name
from shared.bus.errors import BusUnavailable, MessageRejected
from shared.bus.publisher import Outcome, Publisher, Sending
from shared.bus.subjects import PRES_PUB
from shared.ids import ChannelName, ConnectionId, NodeId, UserId

log = structlog.get_logger(__name__)

REMOVAL_HEADERS = {"KV-Operation": "PURGE"}
"""With these the removal itself expires without one more message about that."""

_REST_SECONDS = 0.02
"""For at least so long nobody looks at what falls due, so that it is done many at a time."""


def ttl(seconds: float) -> str:
    """A time to live as the bus reads it."""
    return f"{round(seconds * 1000)}ms"


class PresenceWriter:
    """Sync to be told what is wanted; it is written for as long as `run` runs."""

    def __init__(self, publisher: Publisher, limits: PresenceLimits) -> None:
        self._publisher = publisher
        self._limits = limits
        self._node: NodeId | None = None
        self._slots: dict[Place, Slot] = {}
        self._ready: OrderedDict[Slot, None] = OrderedDict()
        self._later: list[tuple[float, Place]] = []
        self._in_flight: dict[Slot, Sending] = {}
        self._is_running = False
        self._message_numbers = itertools.count(1)
        self._retry_seconds = 0.0
        self._paused_until = 0.0
        self._tombstone_ttl = ttl(limits.tombstone_seconds)
        self._wake = asyncio.Event()
        self.echoes = Echoes()
        """Knows the live copies of what is written here."""

    @property
    def unwritten(self) -> int:
        """Entries that are being written or could be at once."""
        return len(self._ready) + len(self._in_flight)

    @property
    def known(self) -> int:
        """Entries that are wanted, or not yet removed."""
        return len(self._slots)

    def enter(
        self, channel: ChannelName, user_id: UserId, name: str, connection: ConnectionId
    ) -> None:
        """The connection is there; telling it twice changes nothing."""
        place = (channel, user_id)
        slot = self._slots.get(place)
        if slot is None:
            slot = self._slots[place] = Slot(place)
        if not name.isascii():  # a lone surrogate fits into no message
            name = name.encode(errors="replace").decode()
        is_known = connection in slot.connections
        if is_known and slot.name == name:
            return
        if not slot.connections and slot.node is None:
            slot.since = datetime.now(UTC).timestamp()
        if not is_known:
            slot.add(connection)
        slot.name = name
        slot.version += 1
        self._plan(slot)

    def leave(self, channel: ChannelName, user_id: UserId, connection: ConnectionId) -> None:
        """The connection is gone; of one that never came nothing changes."""
        slot = self._slots.get((channel, user_id))
        if slot is None or connection not in slot.connections:
            return
        slot.remove(connection)
        slot.version += 1
        slot.left_at = time.monotonic()
        self._plan(slot)

    def connections(self, channel: ChannelName, user_id: UserId) -> Collection[ConnectionId]:
        """The user's connections in the channel, here."""
        slot = self._slots.get((channel, user_id))
        return slot.connections if slot is not None else ()

    def begin(self, node: NodeId) -> None:
        """Write everything under this node's name; of an earlier one nothing is left.

        There is no grace for who left meanwhile: that entry was lost, and isn't renewed.
        """
        self._node = node
        for slot in list(self._slots.values()):
            slot.forget_written()
            self._plan(slot)
        self._wake.set()

    def pause(self) -> None:
        """Write nothing until `begin`."""
        self._node = None

    def see(self, place: Place, sequence: int, *, present: bool) -> None:
        """The stream shows an entry of this node.

        A write that timed out long ago may still arrive, by another way through a cluster and
        after a later one. It shows here, as it isn't the last that was acknowledged.
        """
        slot = self._slots.get(place)
        if slot is None:
            if not present:
                return
            slot = self._slots[place] = Slot(place)
        if sequence > slot.seen:
            slot.seen = slot.acknowledged if sequence == slot.acknowledged else sequence
        if slot in self._in_flight or sequence <= slot.acknowledged:
            return
        slot.doubt(self._node if present else None)
        self._plan(slot)

    async def run(self) -> None:
        """Write until cancelled."""
        self._is_running = True
        try:
            while True:
                self._take_due()
                self._write_ready()
                await self._rest()
        finally:
            self._is_running = False
            unanswered, self._in_flight = self._in_flight, {}
            for slot, sending in unanswered.items():
                self._publisher.forget(sending)
                self._plan(slot)  # nobody knows what became of it

    async def _rest(self) -> None:
        """Until something may be due, or somebody says so."""
        now = time.monotonic()
        until: list[float] = [self._later[0][0]] if self._later else []
        if self._paused_until > now:
            until.append(self._paused_until)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(min(until) - now, _REST_SECONDS) if until else None):
                await self._wake.wait()
        self._wake.clear()

    def _take_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            due, place = heapq.heappop(self._later)
            slot = self._slots.get(place)
            if slot is not None and slot.due == due:
                self._plan(slot)

    def _plan(self, slot: Slot) -> None:
        """The one rule: what is to be done about this entry, and when."""
        if slot in self._in_flight:
            return  # planned when that has ended
        was_due, slot.due = slot.due, None
        if slot.connections:
            if slot.is_written:
                self._ready.pop(slot, None)
                return
            due = 0.0 if slot.node is None else slot.written_at + self._limits.refresh_seconds
        elif slot.node is None:
            self._ready.pop(slot, None)
            del self._slots[slot.place]
            return
        else:
            due = slot.left_at + self._limits.grace_seconds
        if due <= time.monotonic():
            self._ready[slot] = None
            self._write_ready()
            return
        self._ready.pop(slot, None)
        slot.due = due
        if due != was_due:
            if not self._later or due < self._later[0][0]:
                self._wake.set()
            heapq.heappush(self._later, (due, slot.place))

    def _write_ready(self) -> None:
        """Write as much as may be in flight; the end of each write makes room for the next."""
        node, most = self._node, self._limits.max_writes_in_flight
        if node is None or not self._is_running or time.monotonic() < self._paused_until:
            return
        while self._ready and len(self._in_flight) < most:
            slot, _ = self._ready.popitem(last=False)
            self._write(slot, node)

    def _write(self, slot: Slot, node: NodeId) -> None:
        body, entry = b"", None
        if slot.connections:
            slot.node = node  # from here on the stream may hold it
            entry = slot.entry(self._limits.max_listed_connections)
            body = entry.encode()
        key = EntryKey(slot.place, node)
        name = entry_name(key)
        self.echoes.expect(name, key, body, entry)
        self._in_flight[slot] = self._publisher.send(
            f"{PRES_PUB}{name}",
            body,
            message_id=f"{node}:{next(self._message_numbers)}",
            on_done=partial(self._take_outcome, slot, node, slot.version, entry is not None),
            deadline_seconds=self._limits.write_seconds,
            ttl=None if body else self._tombstone_ttl,
            headers=None if body else REMOVAL_HEADERS,
        )

    def _take_outcome(
        self, slot: Slot, node: NodeId, version: int, is_there: bool, outcome: Outcome
    ) -> None:
        """What became of a write; whatever that is, the entry is looked at again."""
        del self._in_flight[slot]
        if isinstance(outcome, BusUnavailable):
            self._back_off(outcome)
        elif isinstance(outcome, MessageRejected):  # again changes nothing; another version may
            channel, user_id = slot.place
            log.error("presence_rejected", reason=str(outcome), channel=channel, user_id=user_id)
            self._written(slot, version, node if is_there else None, 0)
        else:
            self._retry_seconds = 0.0
            self._written(slot, version, node if is_there else None, outcome.offset)
        if node != self._node:
            slot.forget_written()
        elif slot.seen > slot.acknowledged > 0:
            slot.doubt(node)
        self._plan(slot)
        if self._ready:
            self._write_ready()

    def _written(self, slot: Slot, version: int, node: NodeId | None, sequence: int) -> None:
        slot.written, slot.node = version, node
        if sequence:  # as a rule the stream has shown it, or will: one number for both
            slot.acknowledged = slot.seen if sequence == slot.seen else sequence
        slot.written_at = time.monotonic()

    def _back_off(self, unavailable: BusUnavailable) -> None:
        now = time.monotonic()
        if now < self._paused_until:
            return
        limits = self._limits
        doubled = self._retry_seconds * 2 or limits.retry_seconds
        self._retry_seconds = min(doubled, limits.max_retry_seconds)
        self._paused_until = now + self._retry_seconds * random.uniform(0.5, 1)
        self._wake.set()
        log.info("presence_write_failed", reason=str(unavailable), unwritten=self.unwritten)
