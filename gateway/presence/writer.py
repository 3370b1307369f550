"""Writes this node's presence entries until the stream has what is wanted.

The wanted state is kept here, however long the bus is away. An entry has at most one write in
flight. It ends with its live copy, which every gateway is sent; JetStream is asked for an answer
only if that does not come. Then the entry is compared with the wanted state again, so lost,
repeated and reordered writes are put right. An entry needs no task and no timer: one heap holds
what is due.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice

import structlog

from gateway.presence.limits import PresenceLimits
from gateway.presence.own_writes import OwnWrite, OwnWrites
from gateway.presence.records import (
    REMOVAL_HEADERS,
    ClientInfo,
    Entry,
    EntryKey,
    EntryRecord,
    ForeignRecord,
    Membership,
    NodeId,
    entry_name,
    ttl,
)
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId, user_id_to_json
from hubbub_client.contracts.subjects import PRES_PUB
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import PubAckResult, Publisher, Sending
from hubbub_client.nats.errors import BusUnavailable, MessageRejected

log = structlog.get_logger(__name__)


_FEW = 8
"""Connections that are kept in a tuple, which takes less memory than a dict."""
_NEVER = -1


class EntryState:
    """The wanted state of one entry, and what was written of it."""

    __slots__ = ("acknowledged", "connections", "due", "left_at", "membership", "name",
                 "node", "seen", "since", "version", "written", "written_at")  # fmt: skip

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self.connections: tuple[ConnectionId, ...] | dict[ConnectionId, ClientInfo | None] = ()
        """In the order in which they came; a dict if they are more than `_FEW`, or have infos."""
        self.name = ""
        self.since = 0.0
        self.version = 0
        """Grows with each change of the wanted state."""
        self.written = _NEVER
        """The version that the stream has."""
        self.node: NodeId | None = None
        """The name under which the stream may hold the entry; None if it holds none."""
        self.acknowledged = 0
        """The sequence of the last write that was acknowledged."""
        self.seen = 0
        """The sequence of the last record that the follower delivered."""
        self.left_at = 0.0
        self.written_at = 0.0
        self.due: float | None = None
        """When to plan it again, unless something happens before."""

    @property
    def is_written(self) -> bool:
        return self.written == self.version

    @property
    def was_stored(self) -> bool:
        """Whether a write is known to have been stored, under the name that the entry has now."""
        return self.acknowledged > 0 or self.seen > 0

    def info_of(self, connection: ConnectionId) -> ClientInfo | None:
        return None if isinstance(self.connections, tuple) else self.connections.get(connection)

    def put(self, connection: ConnectionId, info: ClientInfo | None = None) -> None:
        """Add the connection, or give it another info."""
        if isinstance(self.connections, tuple):
            if info is None and len(self.connections) < _FEW:
                if connection not in self.connections:
                    self.connections = (*self.connections, connection)
                return
            self.connections = dict.fromkeys(self.connections)
        self.connections[connection] = info

    def remove(self, connection: ConnectionId) -> None:
        if isinstance(self.connections, tuple):
            self.connections = tuple(each for each in self.connections if each != connection)
            return
        del self.connections[connection]
        if not self.connections:
            self.connections = ()

    def entry(self, limits: PresenceLimits) -> Entry:
        """The wanted entry, with as many of the connections as the limits allow."""
        connections = self.connections
        infos: tuple[ClientInfo | None, ...] = ()
        if isinstance(connections, tuple):
            listed = connections[: limits.max_listed_connections]
        else:
            count = _how_many_fit(connections, limits)
            listed = tuple(islice(connections, count))
            infos = tuple(islice(connections.values(), count))
            if not any(infos):
                infos = ()
        return Entry(self.name, self.since, listed, infos, len(connections) - len(listed))

    def mark_stale(self, node: NodeId | None) -> None:
        """The stream no longer holds what was written last; it may hold an entry of ``node``."""
        self.node, self.written = node, _NEVER

    def forget_written(self) -> None:
        """Earlier writes went to another name or to another life of the stream."""
        self.mark_stale(None)
        self.acknowledged = self.seen = 0


_PUNCTUATION_BYTES = len('"",')


def _how_many_fit(
    connections: Mapping[ConnectionId, ClientInfo | None], limits: PresenceLimits
) -> int:
    """How many of the first connections an entry can list."""
    size = count = 0
    for connection, info in islice(connections.items(), limits.max_listed_connections):
        size += len(connection) + _PUNCTUATION_BYTES
        size += len("null,") if info is None else info.encoded_bytes + len(",")
        if size > limits.max_listed_bytes:
            break
        count += 1
    return count


_MIN_WAIT_SECONDS = 0.02
"""Between two looks at the heap, so that many entries are written at a time."""


class PresenceWriter:
    """`enter` and `leave` change the wanted state without waiting; `run` writes it."""

    def __init__(self, publisher: Publisher, limits: PresenceLimits) -> None:
        self._publisher = publisher
        self._limits = limits
        self._node: NodeId | None = None
        self._states: dict[Membership, EntryState] = {}
        self._ready: OrderedDict[EntryState, None] = OrderedDict()
        self._later: list[tuple[float, Membership]] = []
        """A heap of when to plan which entry. Outdated items are ignored when they are due."""
        self._in_flight: dict[EntryState, Sending] = {}
        self._is_running = False
        self._message_numbers = itertools.count(1)
        self._retry_seconds = 0.0
        self._paused_until = 0.0
        self._tombstone_ttl = ttl(limits.tombstone_seconds)
        self._wake = asyncio.Event()
        self._own_writes = OwnWrites()

    @property
    def unwritten(self) -> int:
        """Entries that are being written or could be at once."""
        return len(self._ready) + len(self._in_flight)

    @property
    def tracked(self) -> int:
        """Entries that are wanted or not yet removed."""
        return len(self._states)

    def enter(
        self,
        channel: ChannelName,
        user_id: UserId,
        name: str,
        connection: ConnectionId,
        info: ClientInfo | None = None,
    ) -> None:
        """The connection is in the channel; a second call can only change its info or name."""
        membership = (channel, user_id)
        state = self._states.get(membership)
        if state is None:
            state = self._states[membership] = EntryState(membership)
        if not name.isascii():  # it may have a lone surrogate, which UTF-8 can't encode
            name = name.encode(errors="replace").decode()
        is_known = connection in state.connections
        if is_known and state.name == name and state.info_of(connection) == info:
            return
        if not state.connections and state.node is None:
            state.since = our_clock()
        state.put(connection, info)
        state.name = name
        state.version += 1
        self._plan(state)

    def leave(self, channel: ChannelName, user_id: UserId, connection: ConnectionId) -> None:
        """The connection has left; one that never entered is ignored."""
        state = self._states.get((channel, user_id))
        if state is None or connection not in state.connections:
            return
        state.remove(connection)
        state.version += 1
        state.left_at = time.monotonic()
        self._plan(state)

    def connections(self, channel: ChannelName, user_id: UserId) -> Collection[ConnectionId]:
        """The user's connections in the channel on this gateway."""
        state = self._states.get((channel, user_id))
        return state.connections if state is not None else ()

    def resume(self, node: NodeId) -> None:
        """Write all entries under this name; those of an earlier one are lost with its lease.

        A user who left meanwhile gets no grace, since the lost entry is not written again.
        """
        self._node = node
        for state in list(self._states.values()):
            state.forget_written()
            self._plan(state)
        self._wake.set()

    def pause(self) -> None:
        """Write nothing until `resume`."""
        self._node = None

    def recall(
        self, name: str, sequence: int, payload: bytes, headers: bytes
    ) -> EntryRecord | None:
        """The record of a message, if it is the live copy of what was written last under its name.

        It says that this is stored, so no answer to the write has to be awaited.
        """
        written = self._own_writes.recall(name, payload, headers)
        if written is None:
            return None
        self._publisher.confirm(written.sending, sequence)
        return EntryRecord(written.key, sequence, written.entry)

    def observe(self, record: EntryRecord | ForeignRecord) -> None:
        """The follower has delivered an entry of this node, or what stands in the place of one.

        A write that timed out may still be stored much later, after a newer one. It is noticed
        here, because its sequence is above that of the last acknowledged write.
        """
        membership, sequence = record.key.membership, record.sequence
        is_present = isinstance(record, ForeignRecord) or record.entry is not None
        state = self._states.get(membership)
        if state is None:
            if not is_present:
                return
            state = self._states[membership] = EntryState(membership)
        if sequence > state.seen:
            state.seen = state.acknowledged if sequence == state.acknowledged else sequence
        if state in self._in_flight or sequence <= state.acknowledged:
            return
        state.mark_stale(self._node if is_present else None)
        self._plan(state)

    async def run(self) -> None:
        """Write until cancelled."""
        self._is_running = True
        try:
            while True:
                self._plan_due()
                self._write_ready()
                await self._wait()
        finally:
            self._is_running = False
            unanswered, self._in_flight = self._in_flight, {}
            for state, sending in unanswered.items():
                self._publisher.forget(sending)
                self._plan(state)  # nobody knows whether it was stored

    async def _wait(self) -> None:
        """Wait until something may be due, or something has changed."""
        now = time.monotonic()
        until: list[float] = [self._later[0][0]] if self._later else []
        if self._paused_until > now:
            until.append(self._paused_until)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(min(until) - now, _MIN_WAIT_SECONDS) if until else None):
                await self._wake.wait()
        self._wake.clear()

    def _plan_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            due, membership = heapq.heappop(self._later)
            state = self._states.get(membership)
            if state is not None and state.due == due:
                self._plan(state)

    def _plan(self, state: EntryState) -> None:
        """Decide what to do about this entry, and when. All changes of an entry end here."""
        if state in self._in_flight:
            return  # planned again by `_take_result`
        was_due, state.due = state.due, None
        if state.is_written and state.connections:
            self._ready.pop(state, None)
            return
        if state.node is None and not state.connections:
            self._ready.pop(state, None)
            del self._states[state.membership]
            return
        due = self._due(state)
        if due <= time.monotonic():
            self._ready[state] = None
            self._write_ready()
            return
        self._ready.pop(state, None)
        state.due = due
        if due != was_due:
            if not self._later or due < self._later[0][0]:
                self._wake.set()
            heapq.heappush(self._later, (due, state.membership))

    def _due(self, state: EntryState) -> float:
        """When to write this entry. After the last connection it is written without any, if it was
        stored with one, and removed when the grace is over."""
        if state.node is None:
            return 0.0
        refresh_seconds = self._limits.refresh_seconds_of(len(state.connections))
        refresh = state.written_at + refresh_seconds
        if state.connections:
            return refresh
        removal = state.left_at + self._limits.grace_seconds
        if state.is_written or not state.was_stored:
            return removal
        return min(refresh, removal)

    def _write_ready(self) -> None:
        """Write as many entries as may be in flight; each result starts the next."""
        node, max_writes = self._node, self._limits.max_writes_in_flight
        if node is None or not self._is_running or time.monotonic() < self._paused_until:
            return
        while self._ready and len(self._in_flight) < max_writes:
            state, _ = self._ready.popitem(last=False)
            self._write(state, node)

    def _write(self, state: EntryState, node: NodeId) -> None:
        body, entry = b"", None
        if state.connections or time.monotonic() < state.left_at + self._limits.grace_seconds:
            state.node = node  # from now on the stream may hold it
            entry = state.entry(self._limits)
            body = entry.encode()
        key = EntryKey(state.membership, node)
        name = entry_name(key)
        sending = self._in_flight[state] = self._publisher.send(
            f"{PRES_PUB}{name}",
            body,
            message_id=f"{node}:{next(self._message_numbers)}",
            on_done=partial(self._take_result, state, node, state.version, entry is not None),
            deadline_seconds=self._limits.write_seconds,
            ttl=None if body else self._tombstone_ttl,
            headers=None if body else REMOVAL_HEADERS,
            asks=False,
        )
        self._own_writes.expect(name, OwnWrite(key, body, entry, sending))

    def _take_result(
        self, state: EntryState, node: NodeId, version: int, is_present: bool, result: PubAckResult
    ) -> None:
        """Note the result of a write, and plan the entry again."""
        del self._in_flight[state]
        if isinstance(result, BusUnavailable):
            self._back_off(result)
        elif isinstance(result, MessageRejected):  # not tried again; the next version is
            channel, user_id = state.membership
            log.error(
                "presence_rejected",
                reason=str(result),
                channel=channel,
                user_id=user_id_to_json(user_id),
            )
            self._note_written(state, version, node if is_present else None, 0)
        else:
            self._retry_seconds = 0.0
            self._note_written(state, version, node if is_present else None, result.offset)
        if node != self._node:
            state.forget_written()
        elif state.seen > state.acknowledged > 0:
            state.mark_stale(node)
        self._plan(state)
        if self._ready:
            self._write_ready()

    def _note_written(
        self, state: EntryState, version: int, node: NodeId | None, sequence: int
    ) -> None:
        state.written, state.node = version, node
        if sequence:  # one int object for both saves memory: there are many entries
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
