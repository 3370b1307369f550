"""Writes this node's presence entries: compares what is wanted with what is written.

What is wanted is kept here, however long the bus is away. One write per entry is in flight, and
when it ends the entry is compared again, so repeated and reordered writes end in what is wanted
too. An entry costs no task and no timer: what is due later lies in one heap.
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
from typing import NamedTuple

import structlog

from gateway.presence.limits import PresenceLimits
from gateway.presence.records import Entry, EntryKey, EntryRecord, Place, entry_name
from shared.contracts.ids import ChannelName, ConnectionId, NodeId, UserId, user_id_to_json
from shared.jetstream.publisher import PubAckResult, Publisher, Sending
from shared.jetstream.subjects import PRES_PUB
from shared.nats.errors import BusUnavailable, MessageRejected

log = structlog.get_logger(__name__)


class _OwnWrite(NamedTuple):
    key: EntryKey
    body: bytes
    entry: Entry | None


class OwnWrites:
    """What was written, until its live copy comes, so that the copy need not be parsed."""

    def __init__(self, *, max_expected: int = 4096) -> None:
        """
        Args:
            max_expected: With so many the live copies are not coming; all are forgotten, and what
                comes later is parsed.
        """
        self._max_expected = max_expected
        self._expected: dict[str, _OwnWrite] = {}

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, name: str, key: EntryKey, body: bytes, entry: Entry | None) -> None:
        """This is being written under the name, in place of what was before."""
        if len(self._expected) >= self._max_expected:
            self._expected.clear()
        self._expected[name] = _OwnWrite(key, body, entry)

    def recall(self, name: str, sequence: int, payload: bytes) -> EntryRecord | None:
        """What the message says if it is the last that was written there; told once."""
        written = self._expected.pop(name, None)
        if written is None or written.body != payload:
            return None
        return EntryRecord(written.key, sequence, written.entry)


_FEW = 8
_NEVER = -1


class EntryState:
    """One entry: what is wanted of it, and what was done about that."""

    __slots__ = ("acknowledged", "connections", "due", "left_at", "name", "node", "place",
                 "seen", "since", "version", "written", "written_at")  # fmt: skip

    def __init__(self, place: Place) -> None:
        self.place = place
        self.connections: tuple[ConnectionId, ...] | dict[ConnectionId, None] = ()
        """In the order in which they came; a dict past a few."""
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
        self.left_at = 0.0
        self.written_at = 0.0
        self.due: float | None = None
        """When to look at it again, unless something happens before."""

    @property
    def is_written(self) -> bool:
        return self.written == self.version

    def add(self, connection: ConnectionId) -> None:
        if isinstance(self.connections, tuple):
            if len(self.connections) < _FEW:
                self.connections = (*self.connections, connection)
                return
            self.connections = dict.fromkeys(self.connections)
        self.connections[connection] = None

    def remove(self, connection: ConnectionId) -> None:
        if isinstance(self.connections, tuple):
            self.connections = tuple(one for one in self.connections if one != connection)
        else:
            del self.connections[connection]

    def entry(self, max_connections: int) -> Entry:
        """What is wanted; lists at most so many of the connections."""
        listed = tuple(self.connections)  # which copies no tuple
        return Entry(self.name, self.since, listed[:max_connections])

    def mark_stale(self, node: NodeId | None) -> None:
        """The stream has something else than what was written last, under this node's name."""
        self.node, self.written = node, _NEVER

    def forget_written(self) -> None:
        """It was under another name, or in another life of the stream."""
        self.mark_stale(None)
        self.acknowledged = self.seen = 0


REMOVAL_HEADERS = {"KV-Operation": "PURGE"}
"""With these a removal expires without a marker of its own."""

_REST_SECONDS = 0.02
"""Between two looks at what is due, so that many are written at a time."""


def ttl(seconds: float) -> str:
    """A time to live as the bus reads it."""
    return f"{round(seconds * 1000)}ms"


class PresenceWriter:
    """Is told what is wanted, without waiting; writes it for as long as `run` runs."""

    def __init__(self, publisher: Publisher, limits: PresenceLimits) -> None:
        self._publisher = publisher
        self._limits = limits
        self._node: NodeId | None = None
        self._states: dict[Place, EntryState] = {}
        self._ready: OrderedDict[EntryState, None] = OrderedDict()
        self._later: list[tuple[float, Place]] = []
        self._in_flight: dict[EntryState, Sending] = {}
        self._is_running = False
        self._message_numbers = itertools.count(1)
        self._retry_seconds = 0.0
        self._paused_until = 0.0
        self._tombstone_ttl = ttl(limits.tombstone_seconds)
        self._wake = asyncio.Event()
        self.own_writes = OwnWrites()
        """Knows the live copies of what is written here."""

    @property
    def unwritten(self) -> int:
        """Entries that are being written or could be at once."""
        return len(self._ready) + len(self._in_flight)

    @property
    def known(self) -> int:
        """Entries that are wanted, or not yet removed."""
        return len(self._states)

    def enter(
        self, channel: ChannelName, user_id: UserId, name: str, connection: ConnectionId
    ) -> None:
        """The connection is there; telling it twice changes nothing."""
        place = (channel, user_id)
        state = self._states.get(place)
        if state is None:
            state = self._states[place] = EntryState(place)
        if not name.isascii():  # a lone surrogate fits into no message
            name = name.encode(errors="replace").decode()
        is_known = connection in state.connections
        if is_known and state.name == name:
            return
        if not state.connections and state.node is None:
            state.since = datetime.now(UTC).timestamp()
        if not is_known:
            state.add(connection)
        state.name = name
        state.version += 1
        self._plan(state)

    def leave(self, channel: ChannelName, user_id: UserId, connection: ConnectionId) -> None:
        """The connection is gone; of one that never came nothing changes."""
        state = self._states.get((channel, user_id))
        if state is None or connection not in state.connections:
            return
        state.remove(connection)
        state.version += 1
        state.left_at = time.monotonic()
        self._plan(state)

    def connections(self, channel: ChannelName, user_id: UserId) -> Collection[ConnectionId]:
        """The user's connections in the channel, here."""
        state = self._states.get((channel, user_id))
        return state.connections if state is not None else ()

    def begin(self, node: NodeId) -> None:
        """Write everything under this node's name; of an earlier one nothing is left.

        There is no grace for who left meanwhile: that entry was lost, and isn't renewed.
        """
        self._node = node
        for state in list(self._states.values()):
            state.forget_written()
            self._plan(state)
        self._wake.set()

    def pause(self) -> None:
        """Write nothing until `begin`."""
        self._node = None

    def see(self, place: Place, sequence: int, *, present: bool) -> None:
        """The stream shows an entry of this node.

        A write that timed out long ago may still arrive, by another way through a cluster and
        after a later one. It shows here, as it isn't the last that was acknowledged.
        """
        state = self._states.get(place)
        if state is None:
            if not present:
                return
            state = self._states[place] = EntryState(place)
        if sequence > state.seen:
            state.seen = state.acknowledged if sequence == state.acknowledged else sequence
        if state in self._in_flight or sequence <= state.acknowledged:
            return
        state.mark_stale(self._node if present else None)
        self._plan(state)

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
            for state, sending in unanswered.items():
                self._publisher.forget(sending)
                self._plan(state)  # it may be stored or not

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
            state = self._states.get(place)
            if state is not None and state.due == due:
                self._plan(state)

    def _plan(self, state: EntryState) -> None:
        """The one rule: what is to be done about this entry, and when."""
        if state in self._in_flight:
            return  # planned when that has ended
        was_due, state.due = state.due, None
        if state.connections:
            if state.is_written:
                self._ready.pop(state, None)
                return
            due = 0.0 if state.node is None else state.written_at + self._limits.refresh_seconds
        elif state.node is None:
            self._ready.pop(state, None)
            del self._states[state.place]
            return
        else:
            due = state.left_at + self._limits.grace_seconds
        if due <= time.monotonic():
            self._ready[state] = None
            self._write_ready()
            return
        self._ready.pop(state, None)
        state.due = due
        if due != was_due:
            if not self._later or due < self._later[0][0]:
                self._wake.set()
            heapq.heappush(self._later, (due, state.place))

    def _write_ready(self) -> None:
        """Write as much as may be in flight; the end of each write makes room for the next."""
        node, most = self._node, self._limits.max_writes_in_flight
        if node is None or not self._is_running or time.monotonic() < self._paused_until:
            return
        while self._ready and len(self._in_flight) < most:
            state, _ = self._ready.popitem(last=False)
            self._write(state, node)

    def _write(self, state: EntryState, node: NodeId) -> None:
        body, entry = b"", None
        if state.connections:
            state.node = node  # from here on the stream may hold it
            entry = state.entry(self._limits.max_listed_connections)
            body = entry.encode()
        key = EntryKey(state.place, node)
        name = entry_name(key)
        self.own_writes.expect(name, key, body, entry)
        self._in_flight[state] = self._publisher.send(
            f"{PRES_PUB}{name}",
            body,
            message_id=f"{node}:{next(self._message_numbers)}",
            on_done=partial(self._take_result, state, node, state.version, entry is not None),
            deadline_seconds=self._limits.write_seconds,
            ttl=None if body else self._tombstone_ttl,
            headers=None if body else REMOVAL_HEADERS,
        )

    def _take_result(
        self, state: EntryState, node: NodeId, version: int, is_there: bool, result: PubAckResult
    ) -> None:
        """Note the result of a write, and plan the entry anew whatever it is."""
        del self._in_flight[state]
        if isinstance(result, BusUnavailable):
            self._back_off(result)
        elif isinstance(result, MessageRejected):  # another version may be taken
            channel, user_id = state.place
            log.error(
                "presence_rejected",
                reason=str(result),
                channel=channel,
                user_id=user_id_to_json(user_id),
            )
            self._written(state, version, node if is_there else None, 0)
        else:
            self._retry_seconds = 0.0
            self._written(state, version, node if is_there else None, result.offset)
        if node != self._node:
            state.forget_written()
        elif state.seen > state.acknowledged > 0:
            state.mark_stale(node)
        self._plan(state)
        if self._ready:
            self._write_ready()

    def _written(self, state: EntryState, version: int, node: NodeId | None, sequence: int) -> None:
        state.written, state.node = version, node
        if sequence:  # share the int object with `seen`, there are many entries
            state.acknowledged = state.seen if sequence == state.seen else sequence
        state.written_at = time.monotonic()

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
