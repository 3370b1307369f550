"""Writes this node's presence entries: compares what is wanted with what is written.

What is wanted is known at once and never lost; the bus may be away for any time. One write
per entry is in flight, and when it ends the entry is looked at again. So whatever happened
meanwhile, repeats and crossings included, ends in what is wanted. An idle entry costs no
task and no timer: all that is due later lies in one heap.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from gateway.presence.facts import Entry
from gateway.presence.limits import PresenceLimits
from gateway.presence.subjects import EntryKey, entry_subject
from shared.bus.errors import BusUnavailable, MessageRejected
from shared.bus.publisher import Publisher, Stored
from shared.ids import ChannelName, ConnectionId, NodeId, UserId

log = structlog.get_logger(__name__)

REMOVAL_HEADERS = {"KV-Operation": "PURGE"}
"""With these the removal itself expires without one more message about that."""

_NEVER = -1

Place = tuple[ChannelName, UserId]


def ttl(seconds: float) -> str:
    """A time to live as the bus reads it."""
    return f"{round(seconds * 1000)}ms"


class _Slot:
    """One entry: what is wanted of it, and what was done about that."""

    __slots__ = ("acknowledged", "connections", "due", "in_flight", "left_at", "name", "node",
                 "seen", "since", "version", "written", "written_at")  # fmt: skip

    def __init__(self) -> None:
        self.connections: dict[ConnectionId, None] = {}
        self.name = ""
        self.since = 0.0
        self.version = 0
        """Counts the changes of what is wanted."""
        self.written = _NEVER
        """The version that the stream has."""
        self.node: NodeId | None = None
        """Under which the stream may hold an entry; None if there is none."""
        self.acknowledged = 0
        """The sequence of the last write that was answered."""
        self.seen = 0
        """The last sequence that the stream showed of it."""
        self.in_flight = False
        self.left_at = 0.0
        self.written_at = 0.0
        self.due: float | None = None

    def forget_written(self) -> None:
        """It was under another name, or in another life of the stream."""
        self.node, self.written = None, _NEVER
        self.acknowledged = self.seen = 0


class PresenceWriter:
    """Sync to be told what is wanted; `run` writes it."""

    def __init__(self, publisher: Publisher, limits: PresenceLimits) -> None:
        self._publisher = publisher
        self._limits = limits
        self._node: NodeId | None = None
        self._slots: dict[Place, _Slot] = {}
        self._ready: dict[Place, _Slot] = {}
        self._later: list[tuple[float, Place]] = []
        self._in_flight = 0
        self._message_numbers = itertools.count(1)
        self._retry_seconds = 0.0
        self._paused_until = 0.0
        self._wake = asyncio.Event()

    @property
    def unwritten(self) -> int:
        """Entries that are being written or could be at once."""
        return len(self._ready) + self._in_flight

    @property
    def known(self) -> int:
        """Entries that are wanted, or not yet removed."""
        return len(self._slots)

    def enter(
        self, channel: ChannelName, user_id: UserId, name: str, connection: ConnectionId
    ) -> None:
        """The connection is there; telling it twice changes nothing."""
        slot = self._slots.get((channel, user_id))
        if slot is None:
            slot = self._slots[channel, user_id] = _Slot()
        name = name.encode(errors="replace").decode()  # a lone surrogate fits into no message
        if connection in slot.connections and slot.name == name:
            return
        if not slot.connections and slot.node is None:
            slot.since = datetime.now(UTC).timestamp()
        slot.connections[connection] = None
        slot.name = name
        slot.version += 1
        self._plan((channel, user_id), slot)

    def leave(self, channel: ChannelName, user_id: UserId, connection: ConnectionId) -> None:
        """The connection is gone; of one that never came nothing changes."""
        slot = self._slots.get((channel, user_id))
        if slot is None or connection not in slot.connections:
            return
        del slot.connections[connection]
        slot.version += 1
        slot.left_at = time.monotonic()
        self._plan((channel, user_id), slot)

    def connections(self, channel: ChannelName, user_id: UserId) -> Collection[ConnectionId]:
        """The user's connections in the channel, here."""
        slot = self._slots.get((channel, user_id))
        return slot.connections.keys() if slot else ()

    def begin(self, node: NodeId) -> None:
        """Write everything under this node's name; of an earlier one nothing is left.

        There is no grace for who left meanwhile: that entry was lost, and isn't renewed.
        """
        self._node = node
        for place, slot in list(self._slots.items()):
            slot.forget_written()
            self._plan(place, slot)
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
            slot = self._slots[place] = _Slot()
        slot.seen = max(slot.seen, sequence)
        if slot.in_flight or sequence <= slot.acknowledged:
            return
        slot.node = self._node if present else None
        slot.written = _NEVER
        self._plan(place, slot)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as writes:
            while True:
                self._take_due()
                while self._ready and self._may_write():
                    place, slot = next(iter(self._ready.items()))
                    del self._ready[place]
                    slot.in_flight = True
                    self._in_flight += 1
                    writes.create_task(self._write(place, slot))
                await self._rest()

    def _may_write(self) -> bool:
        return (
            self._node is not None
            and self._in_flight < self._limits.max_writes_in_flight
            and time.monotonic() >= self._paused_until
        )

    async def _rest(self) -> None:
        until: list[float] = [self._later[0][0]] if self._later else []
        if self._ready and self._node is not None and self._paused_until > time.monotonic():
            until.append(self._paused_until)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(until) - time.monotonic() if until else None):
                await self._wake.wait()
        self._wake.clear()

    def _take_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            due, place = heapq.heappop(self._later)
            slot = self._slots.get(place)
            if slot is not None and slot.due == due:
                self._plan(place, slot)

    def _plan(self, place: Place, slot: _Slot) -> None:
        """The one rule: what is to be done about this entry, and when."""
        if slot.in_flight:
            return  # planned when that has ended
        was_due, slot.due = slot.due, None
        self._ready.pop(place, None)
        if not slot.connections and slot.node is None:
            del self._slots[place]
            return
        if slot.connections and slot.written == slot.version:
            return
        if not slot.connections:
            due = slot.left_at + self._limits.grace_seconds
        elif slot.node is None:
            due = 0.0
        else:
            due = slot.written_at + self._limits.refresh_seconds
        if due <= time.monotonic():
            self._ready[place] = slot
            self._wake.set()
            return
        slot.due = due
        if due != was_due:
            heapq.heappush(self._later, (due, place))
            self._wake.set()

    async def _write(self, place: Place, slot: _Slot) -> None:
        node, version, wanted = self._node, slot.version, bool(slot.connections)
        assert node is not None  # else it isn't started
        if wanted:
            slot.node = node  # from here on the stream may hold it
        try:
            stored = await self._publish(EntryKey(*place, node), self._body(slot))
        except BusUnavailable as unavailable:
            self._back_off(unavailable)
        except MessageRejected as rejected:  # trying again changes nothing; another version may
            log.error("presence_rejected", reason=str(rejected), channel=place[0], user_id=place[1])
            self._written(slot, version, None if not wanted else node, 0)
        else:
            self._retry_seconds = 0.0
            self._written(slot, version, None if not wanted else node, stored.offset)
        slot.in_flight = False
        self._in_flight -= 1
        if node != self._node:
            slot.forget_written()
        elif slot.seen > slot.acknowledged > 0:
            slot.node, slot.written = node, _NEVER
        self._plan(place, slot)
        self._wake.set()

    def _written(self, slot: _Slot, version: int, node: NodeId | None, sequence: int) -> None:
        slot.written, slot.node = version, node
        slot.acknowledged = sequence or slot.acknowledged
        slot.written_at = time.monotonic()

    def _body(self, slot: _Slot) -> bytes:
        if not slot.connections:
            return b""
        listed = itertools.islice(slot.connections, self._limits.max_listed_connections)
        return Entry(slot.name, slot.since, tuple(listed)).encode()

    async def _publish(self, key: EntryKey, body: bytes) -> Stored:
        return await self._publisher.publish(
            entry_subject(key),
            body,
            message_id=f"{key.node}:{next(self._message_numbers)}",
            deadline_seconds=self._limits.write_seconds,
            ttl=None if body else ttl(self._limits.tombstone_seconds),
            headers={} if body else REMOVAL_HEADERS,
        )

    def _back_off(self, unavailable: BusUnavailable) -> None:
        now = time.monotonic()
        if now < self._paused_until:
            return
        limits = self._limits
        doubled = self._retry_seconds * 2 or limits.retry_seconds
        self._retry_seconds = min(doubled, limits.max_retry_seconds)
        self._paused_until = now + self._retry_seconds * random.uniform(0.5, 1)
        log.info("presence_write_failed", reason=str(unavailable), unwritten=self.unwritten)
