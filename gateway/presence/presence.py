"""Presence, as the rest of the gateway knows it: enter and leave, who is there, who changed.

All gateways follow one stream, so all say the same: a user joins a channel once, with a
first tab anywhere, and leaves it once, with the last.

A hole in what was followed can't be filled here: removals expire, expired ones are purged,
and neither leaves a trace; a refreshed entry leaves its old place, so what still stands
in between tells of states that never were. So what came after a doubt is not replayed. The
table is read anew, and the difference told.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway.presence.arrivals import Arrivals
from gateway.presence.burials import Burials
from gateway.presence.facts import Entry, EntryFact, Fact, LeaseFact, read_fact
from gateway.presence.leases import NodeLease
from gateway.presence.limits import PresenceLimits
from gateway.presence.snapshot import read_snapshot
from gateway.presence.subjects import EntryKey, LeaseKey
from gateway.presence.table import PresenceChange, PresenceTable
from gateway.presence.writer import PresenceWriter
from shared.bus.client import Bus
from shared.bus.direct_get import StoredMessage
from shared.bus.errors import BusUnavailable
from shared.bus.follower import Follower
from shared.bus.limits import FollowerLimits
from shared.bus.position import RETENTION
from shared.bus.publisher import Publisher
from shared.bus.subjects import PRES_LIVE
from shared.ids import ChannelName, ConnectionId, NodeId, UserId
from shared.supervision import Loop

log = structlog.get_logger(__name__)


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
        limits: PresenceLimits | None = None,
        follower_limits: FollowerLimits | None = None,
    ) -> None:
        """
        Args:
            on_change: Told of every change of any channel, in order, when the table has it
                already. Synchronous; should it raise, that is logged.
        """
        self._bus = bus
        self._limits = limits or PresenceLimits()
        self._on_change = on_change
        self._table = PresenceTable()
        self._arrivals = Arrivals()
        self._stale = asyncio.Event()
        self._stale.set()
        self._read_after = 0.0
        self._meanwhile: dict[EntryKey | LeaseKey, Fact] | None = None
        """What came while a snapshot was being read, the last of each; None at other times."""
        self._writer = PresenceWriter(publisher, self._limits)
        self._lease = NodeLease(
            publisher, self._limits, on_held=self._writer.begin, on_lost=self._writer.pause
        )
        self._burials = Burials(
            bus,
            publisher,
            self._limits,
            table=self._table,
            may_judge=lambda: self.caught_up,
            doubt=self._stale.set,
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
            Loop("presence_burials", self._burials.run, is_vital=False),
        )

    async def withdraw(self, deadline_seconds: float = 0.3) -> None:
        """Say goodbye, so that nobody waits for the lease to run out; see `leases`.

        To be called while the loops still run, after the last connection was closed.
        """
        self._writer.pause()
        await self._lease.withdraw(deadline_seconds)

    def _take(self, message: StoredMessage) -> None:
        name, sequence, payload = message.subject, message.sequence, message.payload
        fact: Fact | None = self._writer.echoes.recall(name, sequence, payload)
        if fact is None:
            fact = read_fact(name, sequence, payload, message.headers)
        if fact is None:
            return
        if isinstance(fact, LeaseFact):
            self._lease.see(fact)
        elif fact.key.node == self._lease.node:
            self._see_own(fact)
        if self._meanwhile is not None:
            self._meanwhile[fact.key] = fact
        elif self.caught_up:
            self._tell(self._table.apply(fact))
        else:
            self._stale.set()  # what is being filled in now, the snapshot has

    def _see_own(self, fact: EntryFact) -> None:
        self._writer.see(fact.key.place, fact.sequence, present=fact.entry is not None)

    def _reset(self, reason: str) -> None:
        if reason != RETENTION:  # that one is daily business: all that was next was replaced
            # Everybody announces anew. Read when they have, or all would leave and come.
            self._lease.lose(reason)
            self._read_after = time.monotonic() + self._limits.hold_seconds
        self._stale.set()

    async def _keep_true(self) -> None:
        """Read the table anew whenever it may be wrong."""
        try:
            while True:
                await self._read_when_stale()
        finally:  # whatever was under way, the table isn't true before it is read anew
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
        for fact in sorted(meanwhile.values(), key=lambda fact: fact.sequence):
            if fact.sequence > up_to:
                snapshot.apply(fact)
        changes = self._table.become(snapshot, up_to)
        log.info("presence_snapshot_taken", up_to=up_to, changes=len(changes))
        self._tell(changes)

    def _tell(self, changes: list[PresenceChange]) -> None:
        """First those who watched all along: who is told of his own arrival begins to watch."""
        for change in changes:
            try:
                self._on_change(change)
            except Exception:  # the table has the others too, and won't tell of them again
                log.exception("presence_change_not_told", channel=change.channel)
        for change in changes:
            if change.joined:
                self._arrivals.arrive((change.channel, change.user_id))
