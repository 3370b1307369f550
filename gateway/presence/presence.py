"""Presence, as the rest of the gateway uses it: enter and leave, who is there, who came or went.

All gateways follow one stream, so all report the same: a user joins a channel once, with a first
connection on any gateway, and leaves it once, with the last.

After a hole the stream is not replayed, because a replay would show states that never existed:
removals expire, purged entries leave no message, and a refreshed entry gets a new sequence.
Instead a snapshot of the stream is read, and the differences are reported.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway.presence.lease import NodeLease
from gateway.presence.limits import PresenceLimits
from gateway.presence.reaper import LeaseReaper
from gateway.presence.records import (
    ClientInfo,
    Entry,
    EntryKey,
    EntryRecord,
    ForeignRecord,
    LeaseKey,
    LeaseRecord,
    NodeId,
    Record,
    read_record,
)
from gateway.presence.snapshot import read_snapshot
from gateway.presence.table import Change, ClientChange, PresenceChange, PresenceTable
from gateway.presence.users import ChannelStats, Client
from gateway.presence.waiters import JoinWaiters, OnDone
from gateway.presence.writer import PresenceWriter
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from hubbub_client.contracts.subjects import PRES_LIVE, PRES_PUB
from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable
from shared.jetstream.follower import Follower
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.position import RETENTION
from shared.runtime.supervision import Loop

log = structlog.get_logger(__name__)


class Presence:
    """Writes who is here, and knows who is on all gateways.

    Every gateway holds the entries of all channels of the cluster, also of those without a
    listener here: about 0.5 KiB each, so some 50 MiB for 100,000 users of one channel.
    """

    def __init__(
        self,
        bus: Bus,
        publisher: Publisher,
        *,
        on_change: Callable[[PresenceChange], None] = lambda _change: None,
        on_client_change: Callable[[ClientChange], None] = lambda _change: None,
        is_watched: Callable[[ChannelName], bool] = lambda _channel: False,
        limits: PresenceLimits,
        follower_limits: FollowerLimits | None = None,
    ) -> None:
        """
        Args:
            on_change: Called with each user who joins or leaves any channel, in order, after the
                table has it. Synchronous; if it raises, that is logged.
            on_client_change: Likewise with each connection that comes into a channel or leaves it,
                on any gateway. Only those that an entry lists are told of.
            is_watched: Whether ``on_client_change`` is called for this channel. Asked at each
                change.
        """
        self._bus = bus
        self._limits = limits
        self._on_change = on_change
        self._on_client_change = on_client_change
        self._table = PresenceTable(is_watched)
        self._waiters = JoinWaiters(self._table.has)
        self._stale = asyncio.Event()
        self._stale.set()
        self._snapshot_not_before = 0.0
        self._buffered: dict[EntryKey | LeaseKey, Record] | None = None
        """The last record of each key that came while a snapshot is read; None at other times."""
        self._writer = PresenceWriter(publisher, self._limits)
        self._lease = NodeLease(
            publisher, self._limits, on_held=self._writer.resume, on_lost=self._writer.pause
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
            PRES_PUB,
            PRES_LIVE,
            deliver=self._deliver,
            on_reset=self._reset,
            on_skipped=lambda _first, _last: self._stale.set(),
            limits=follower_limits,
        )

    @property
    def caught_up(self) -> bool:
        """Connected, and the table is the same as the stream."""
        is_current = not self._stale.is_set() and self._buffered is None
        return is_current and self._follower.caught_up

    @property
    def node(self) -> NodeId | None:
        """The name under which this gateway writes entries now; None without a lease."""
        return self._lease.node

    @property
    def lease_in_force(self) -> bool:
        """Whether this gateway's lease has not expired, so its entries count."""
        return self._lease.in_force

    @property
    def live_leases(self) -> frozenset[NodeId]:
        """The names under which gateways write entries now, as far as is known here."""
        return self._table.live_leases()

    @property
    def unwritten(self) -> int:
        """Entries that are being written or could be at once."""
        return self._writer.unwritten

    @property
    def lag(self) -> int:
        """How many messages the stream has that were not read yet."""
        return self._follower.lag

    def takes(self, info: ClientInfo) -> bool:
        """Whether a connection may `enter` with this info: it is UTF-8, and not too long."""
        try:
            return info.encoded_bytes <= self._limits.max_info_bytes
        except ValueError:
            return False

    def enter(
        self,
        channel: ChannelName,
        user_id: UserId,
        name: str,
        connection: ConnectionId,
        info: ClientInfo | None = None,
    ) -> None:
        """The connection is in the channel: write it into the user's entry, soon.

        A second call can give it another info, of which nobody is told.

        Args:
            info: One that `takes` allows.
        """
        self._writer.enter(channel, user_id, name, connection, info)

    def leave(self, channel: ChannelName, user_id: UserId, connection: ConnectionId) -> None:
        """The connection has left: write that soon. After the last one the user leaves, when the
        grace is over."""
        self._writer.leave(channel, user_id, connection)

    def users(self, channel: ChannelName, limit: int | None = None) -> list[tuple[UserId, str]]:
        """The ids and names of the channel's first users, in the order of arrival."""
        return self._table.users(channel, limit)

    def count(self, channel: ChannelName) -> int:
        """How many users the channel has."""
        return self._table.count(channel)

    def clients(self, channel: ChannelName, limit: int | None = None) -> list[Client]:
        """The channel's first connections, user by user in the order of arrival."""
        return self._table.clients(channel, limit)

    def stats(self, channel: ChannelName) -> ChannelStats:
        """How many connections the channel has, and of how many users. No user in the grace is
        counted here, but those connections are that no entry has room to list."""
        return self._table.stats(channel)

    def has(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether the user is in the channel, with any connection on any node, or in the grace."""
        return self._table.has((channel, user_id))

    def head_version(self, channel: ChannelName) -> int:
        """The same number as long as the channel's first `HEAD` users are the same."""
        return self._table.head_version(channel)

    def entries(self, channel: ChannelName, user_id: UserId) -> dict[NodeId, Entry]:
        """The user's connections in the channel, by node."""
        return self._table.entries(channel, user_id)

    def connections_elsewhere(self, user_id: UserId) -> int:
        """How many connections the user has on other gateways, according to the table.

        Those of a gateway that died count until its lease has ended. Not counted are those in no
        channel with presence, and those that an entry is too long to list.
        """
        listed: set[ConnectionId] = set()
        for channel in self._table.channels_of(user_id):
            ours = self._writer.connections(
                channel, user_id
            )  # an entry under an earlier name may list them
            for node, entry in self._table.entries(channel, user_id).items():
                if node != self._lease.node:
                    listed.update(each for each in entry.connections if each not in ours)
        return len(listed)

    def when_present(
        self,
        channel: ChannelName,
        user_id: UserId,
        deadline_seconds: float,
        on_done: OnDone,
        *,
        connection: ConnectionId | None = None,
    ) -> None:
        """Call back when the table has the user in the channel, or with False after the deadline.

        If the table has the user already, call back at once; else in the step in which the user
        joins, after ``on_change`` and ``on_client_change``.

        Args:
            connection: Wait until the table has the user with this one.
        """
        self._waiters.add((channel, user_id), deadline_seconds, on_done, connection)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What has to run all the time."""
        return (
            Loop("presence_follower", self._follower.run),
            Loop("presence_table", self._keep_current),
            Loop("presence_lease", self._lease.run, may_return=True),  # after `release_lease`
            Loop("presence_writer", self._writer.run),
            Loop("presence_burials", self._reaper.run, is_vital=False),
        )

    async def release_lease(self, deadline_seconds: float = 0.3) -> None:
        """Shorten the lease before the process stops; see `gateway.presence.lease`.

        To be called after the last connection was closed, while the loops still run.
        """
        self._writer.pause()
        await self._lease.release(deadline_seconds)

    def _deliver(self, message: StoredMessage) -> None:
        sequence, name, payload, headers = message
        record: Record | ForeignRecord | None = self._writer.recall(
            name, sequence, payload, headers
        )
        if record is None:
            record = read_record(name, sequence, payload, headers)
        if record is None:
            return
        if isinstance(record, LeaseRecord):
            self._lease.observe(record)
        elif record.key.node == self._lease.node:
            self._writer.observe(record)
        if isinstance(record, ForeignRecord):
            return
        if self._buffered is not None:
            self._buffered[record.key] = record
        elif self.caught_up:
            changes = self._table.apply(record)
            self._report(changes)
            if isinstance(record, EntryRecord):
                self._waiters.look([record.key.membership])
            elif changes:
                self._waiters.look()
        else:
            self._stale.set()  # the next snapshot will contain this record

    def _reset(self, reason: str) -> None:
        if reason != RETENTION:  # common and harmless: newer messages replaced what came next
            # All gateways write their entries anew. A snapshot before that would make all users
            # leave and come back.
            self._lease.lose(reason)
            self._snapshot_not_before = time.monotonic() + self._limits.hold_seconds
        self._stale.set()

    async def _keep_current(self) -> None:
        """Read a snapshot whenever the table may be wrong."""
        try:
            while True:
                await self._read_when_stale()
        finally:  # perhaps while a snapshot is read
            self._buffered = None
            self._stale.set()

    async def _read_when_stale(self) -> None:
        await self._stale.wait()
        await asyncio.sleep(max(self._snapshot_not_before - time.monotonic(), 0))
        await self._follower.until_caught_up()
        self._stale.clear()
        buffered = self._buffered = {}
        try:
            snapshot, up_to = await read_snapshot(self._bus, self._limits)
        except BusUnavailable as unavailable:
            log.info("presence_snapshot_failed", reason=str(unavailable))
            self._buffered = None
            self._stale.set()
            await asyncio.sleep(self._limits.retry_seconds)
            return
        self._buffered = None
        if self._stale.is_set() or not self._follower.caught_up:
            self._stale.set()
            return
        for record in sorted(buffered.values(), key=lambda record: record.sequence):
            if record.sequence > up_to:
                snapshot.apply(record)
        changes = self._table.become(snapshot, up_to)
        log.info("presence_snapshot_taken", up_to=up_to, changes=len(changes))
        self._report(changes)
        self._waiters.look()

    def _report(self, changes: list[Change]) -> None:
        """Tell of the changes. The waiters are to be called afterwards: they begin to hear of
        changes when they are called."""
        for change in changes:
            try:
                if isinstance(change, ClientChange):
                    self._on_client_change(change)
                else:
                    self._on_change(change)
            except Exception:  # the other changes are in the table, so they have to be reported
                log.exception("presence_change_not_told", channel=change.channel)
