"""Presence, as the rest of the gateway knows it: enter and leave, who is there, who changed.

All gateways follow one stream, so all say the same: a user joins a channel once, with a
first tab anywhere, and leaves it once, with the last.

After a hole the stream is not replayed. Removals expire and purged entries leave no trace, and
a refreshed entry leaves its old sequence, so a replay would show states that never were. The
table is read anew instead, and the differences are told.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway.presence.lease import NodeLease
from gateway.presence.limits import PresenceLimits
from gateway.presence.reaper import LeaseReaper
from gateway.presence.records import (
    Entry,
    EntryKey,
    EntryRecord,
    LeaseKey,
    LeaseRecord,
    Place,
    Record,
    read_record,
)
from gateway.presence.snapshot import read_snapshot
from gateway.presence.table import PresenceChange, PresenceTable
from gateway.presence.writer import PresenceWriter
from shared.contracts.ids import ChannelName, ConnectionId, NodeId, UserId
from shared.jetstream.api import StoredMessage
from shared.jetstream.follower import Follower
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.position import RETENTION
from shared.jetstream.publisher import Publisher
from shared.jetstream.subjects import PRES_LIVE
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable
from shared.runtime.supervision import Loop

log = structlog.get_logger(__name__)

Tell = Callable[[bool], None]
"""Gets whether the user is there; it must not raise."""

_SWEEP_SECONDS = 0.05
"""By so much a deadline may be late."""


class Arrivals:
    """Callbacks that wait for a user. One timer sweeps them; none runs while none waits."""

    def __init__(self) -> None:
        self._waiting: dict[Place, list[tuple[float, Tell]]] = {}
        """The deadline of each, by the monotonic clock."""
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_sweeping(self) -> bool:
        return self._sweeper is not None

    def wait(self, place: Place, deadline_seconds: float, tell: Tell) -> None:
        """Tell once: True as soon as `arrive` is called of the place, or False if that is late."""
        self._waiting.setdefault(place, []).append((time.monotonic() + deadline_seconds, tell))
        if self._sweeper is None:
            self._sweep_later()

    def arrive(self, place: Place) -> None:
        """The user is there."""
        for _, tell in self._waiting.pop(place, ()):
            tell(True)

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = time.monotonic()
        late: list[Tell] = []
        for place, waiting in list(self._waiting.items()):
            if any(deadline <= now for deadline, _ in waiting):
                late += [tell for deadline, tell in waiting if deadline <= now]
                patient = [each for each in waiting if each[0] > now]
                if patient:
                    self._waiting[place] = patient
                else:
                    del self._waiting[place]
        if self._waiting:
            self._sweep_later()
        for tell in late:
            tell(False)


class Presence:
    """The presence of one gateway: what it claims, and what it knows of all.

    The table holds every channel of the cluster, watched here or not: about 0.5 KiB an
    entry, so 100,000 users of one channel cost every gateway some 50 MiB.
    """

    def __init__(
        self,
        bus: Bus,
        publisher: Publisher,
        *,
        on_change: Callable[[PresenceChange], None] = lambda _change: None,
        limits: PresenceLimits,
        follower_limits: FollowerLimits | None = None,
    ) -> None:
        """
        Args:
            on_change: Told of every change of any channel, in order, when the table has it
                already. Synchronous; should it raise, that is logged.
        """
        self._bus = bus
        self._limits = limits
        self._on_change = on_change
        self._table = PresenceTable()
        self._arrivals = Arrivals()
        self._stale = asyncio.Event()
        self._stale.set()
        self._read_after = 0.0
        self._meanwhile: dict[EntryKey | LeaseKey, Record] | None = None
        """What came while a snapshot was being read, the last of each; None at other times."""
        self._writer = PresenceWriter(publisher, self._limits)
        self._lease = NodeLease(
            publisher, self._limits, on_held=self._writer.begin, on_lost=self._writer.pause
        )
        self._reaper = LeaseReaper(
            bus,
            publisher,
            self._limits,
            table=self._table,
            is_current=lambda: self.caught_up,
            mark_stale=self._stale.set,
        )
        self._follower = Follower(
            bus,
            "PRES",
            PRES_LIVE,
            deliver=self._take,
            on_reset=self._reset,
            on_skipped=lambda _first, _last: self._stale.set(),
            limits=follower_limits,
        )

    @property
    def caught_up(self) -> bool:
        """Connected, and the table is as the stream is."""
        is_true = not self._stale.is_set() and self._meanwhile is None
        return is_true and self._follower.caught_up

    @property
    def node(self) -> NodeId | None:
        """The name under which this gateway announces now; None without a lease."""
        return self._lease.node

    @property
    def lease_in_force(self) -> bool:
        """Whether the others still believe what this gateway announces."""
        return self._lease.in_force

    @property
    def unwritten(self) -> int:
        """Entries that are being written, or wait for the bus."""
        return self._writer.unwritten

    @property
    def lag(self) -> int:
        """How many messages of the stream are known and not yet read."""
        return self._follower.lag

    def enter(
        self, channel: ChannelName, user_id: UserId, name: str, connection: ConnectionId
    ) -> None:
        """The connection is in the channel. Written soon, and for as long as it stays."""
        self._writer.enter(channel, user_id, name, connection)

    def leave(self, channel: ChannelName, user_id: UserId, connection: ConnectionId) -> None:
        """The connection has left. The user leaves with the last one, after the grace."""
        self._writer.leave(channel, user_id, connection)

    def users(self, channel: ChannelName, limit: int | None = None) -> list[tuple[UserId, str]]:
        """The first users of the channel in the order of arrival, and their names."""
        return self._table.users(channel, limit)

    def count(self, channel: ChannelName) -> int:
        """Users of the channel."""
        return self._table.count(channel)

    def has(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether the user is in the channel, by any tab on any node."""
        return self._table.has(channel, user_id)

    def head_version(self, channel: ChannelName) -> int:
        """The same number for as long as the first 200 users are the same."""
        return self._table.head_version(channel)

    def entries(self, channel: ChannelName, user_id: UserId) -> dict[NodeId, Entry]:
        """The user's connections in the channel, by node."""
        return self._table.entries(channel, user_id)

    def connections_elsewhere(self, user_id: UserId) -> int:
        """The user's connections on other gateways, as far as the table has them.

        Those of a gateway that died count until its lease has ended. Those in no channel
        with presence don't, nor what is more than an entry lists.
        """
        listed: set[ConnectionId] = set()
        for channel in self._table.channels_of(user_id):
            ours = self._writer.connections(channel, user_id)  # under an earlier name, too
            for node, entry in self._table.entries(channel, user_id).items():
                if node != self._lease.node:
                    listed.update(each for each in entry.connections if each not in ours)
        return len(listed)

    def when_present(
        self,
        channel: ChannelName,
        user_id: UserId,
        deadline_seconds: float,
        tell: Callable[[bool], None],
    ) -> None:
        """Tell once the table has the user in the channel, by any node; False if that is late.

        At once if it has already; else in the very step in which it comes, after all who were
        there have been told. ``tell`` must not raise.
        """
        if self._table.has(channel, user_id):
            tell(True)
        else:
            self._arrivals.wait((channel, user_id), deadline_seconds, tell)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """They follow, and keep the lease and the entries."""
        return (
            Loop("presence_follower", self._follower.run),
            Loop("presence_table", self._keep_true),
            Loop("presence_lease", self._lease.run, may_return=True),  # by `withdraw`
            Loop("presence_writer", self._writer.run),
            Loop("presence_burials", self._reaper.run, is_vital=False),
        )

    async def withdraw(self, deadline_seconds: float = 0.3) -> None:
        """Shorten the lease, so that nobody waits for it to run out; see `gateway.presence.lease`.

        To be called while the loops still run, after the last connection was closed.
        """
        self._writer.pause()
        await self._lease.withdraw(deadline_seconds)

    def _take(self, message: StoredMessage) -> None:
        name, sequence, payload = message.subject, message.sequence, message.payload
        record: Record | None = self._writer.own_writes.recall(name, sequence, payload)
        if record is None:
            record = read_record(name, sequence, payload, message.headers)
        if record is None:
            return
        if isinstance(record, LeaseRecord):
            self._lease.see(record)
        elif record.key.node == self._lease.node:
            self._see_own(record)
        if self._meanwhile is not None:
            self._meanwhile[record.key] = record
        elif self.caught_up:
            self._tell(self._table.apply(record))
        else:
            self._stale.set()  # the snapshot will have what is being filled in now

    def _see_own(self, record: EntryRecord) -> None:
        self._writer.see(record.key.place, record.sequence, present=record.entry is not None)

    def _reset(self, reason: str) -> None:
        if reason != RETENTION:  # which is common: all that came next was replaced
            # Everybody announces anew. Read when they have, or all would leave and come.
            self._lease.lose(reason)
            self._read_after = time.monotonic() + self._limits.hold_seconds
        self._stale.set()

    async def _keep_true(self) -> None:
        """Read the table anew whenever it may be wrong."""
        try:
            while True:
                await self._read_when_stale()
        finally:  # a snapshot was perhaps under way
            self._meanwhile = None
            self._stale.set()

    async def _read_when_stale(self) -> None:
        await self._stale.wait()
        await asyncio.sleep(max(self._read_after - time.monotonic(), 0))
        await self._follower.until_caught_up()
        self._stale.clear()
        meanwhile = self._meanwhile = {}
        try:
            snapshot, up_to = await read_snapshot(self._bus, self._limits)
        except BusUnavailable as unavailable:
            log.info("presence_snapshot_failed", reason=str(unavailable))
            self._meanwhile = None
            self._stale.set()
            await asyncio.sleep(self._limits.retry_seconds)
            return
        self._meanwhile = None
        if self._stale.is_set() or not self._follower.caught_up:
            self._stale.set()
            return
        for record in sorted(meanwhile.values(), key=lambda record: record.sequence):
            if record.sequence > up_to:
                snapshot.apply(record)
        changes = self._table.become(snapshot, up_to)
        log.info("presence_snapshot_taken", up_to=up_to, changes=len(changes))
        self._tell(changes)

    def _tell(self, changes: list[PresenceChange]) -> None:
        """`on_change` first: a user who is told of his own arrival begins to watch by that."""
        for change in changes:
            try:
                self._on_change(change)
            except Exception:  # the table has the others already, and tells of each once
                log.exception("presence_change_not_told", channel=change.channel)
        for change in changes:
            if change.joined:
                self._arrivals.arrive((change.channel, change.user_id))
