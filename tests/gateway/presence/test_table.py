"""The table depends only on the stream's content, however a gateway has read it."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.presence.records import (
    ClientInfo,
    Entry,
    EntryKey,
    EntryRecord,
    LeaseKey,
    LeaseRecord,
    LeaseState,
    Membership,
    NodeId,
    Record,
)
from gateway.presence.table import Change, ClientChange, PresenceChange, PresenceTable
from gateway.presence.users import ChannelStats
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, ConnectionId, UserId

CHANNEL = ChannelName("chat:lobby")
ANN, BOB = UserId("1"), UserId("2")

channels = st.sampled_from([CHANNEL, ChannelName("chat:two")])
users = st.sampled_from([ANONYMOUS, *(UserId(str(n)) for n in range(1, 4))])
infos = st.sampled_from([None, ClientInfo(b"1"), ClientInfo(None, b"2")])
clients = st.dictionaries(st.integers(1, 3), infos, max_size=3)


def lease(node: str, sequence: int, state: LeaseState = LeaseState.LIVE) -> LeaseRecord:
    return LeaseRecord(LeaseKey(NodeId(node)), sequence, state)


def entry(
    node: str, sequence: int, user_id: UserId = ANN, since: float = 0, name: str = "Ann"
) -> EntryRecord:
    key = EntryKey((CHANNEL, user_id), NodeId(node))
    return EntryRecord(key, sequence, Entry(name, since, (ConnectionId("c"),)))


def no_entry(node: str, sequence: int, user_id: UserId = ANN) -> EntryRecord:
    return EntryRecord(EntryKey((CHANNEL, user_id), NodeId(node)), sequence, None)


def removes(record: Record) -> bool:
    if isinstance(record, LeaseRecord):
        return record.state is LeaseState.ENDED
    return record.entry is None


def a_table(*records: Record) -> PresenceTable:
    table = PresenceTable()
    for record in records:
        table.apply(record)
    return table


def test_a_user_on_two_nodes_joins_once_and_leaves_once() -> None:
    table = a_table(lease("a", 1), lease("b", 2))

    changes = [
        table.apply(record)
        for record in (entry("a", 3), entry("b", 4), no_entry("a", 5), no_entry("b", 6))
    ]

    assert changes == [
        [PresenceChange(CHANNEL, ANN, "Ann", True, 1)],
        [],
        [],
        [PresenceChange(CHANNEL, ANN, "Ann", False, 0)],
    ]


def test_users_are_listed_in_the_order_in_which_they_came() -> None:
    table = a_table(lease("a", 1), lease("b", 2), entry("a", 3, BOB, since=2, name="Bob"))
    table.apply(entry("b", 4, ANN, since=1))
    table.apply(entry("a", 5, ANN, since=9, name="Ann of old"))
    table.apply(entry("a", 6, BOB, since=2, name="Bob"))  # another tab changes no order

    assert table.users(CHANNEL) == [(ANN, "Ann of old"), (BOB, "Bob")]
    assert table.users(CHANNEL, limit=1) == [(ANN, "Ann of old")]


def test_entries_without_a_lease_do_not_count() -> None:
    table = a_table(entry("a", 1))

    assert table.count(CHANNEL) == 0
    assert table.orphaned_nodes() == ["a"]
    assert [change.joined for change in table.apply(lease("a", 2))] == [True]


def test_users_of_an_expired_lease_count_until_somebody_ends_it() -> None:
    table = a_table(lease("a", 1), entry("a", 2))

    assert table.apply(lease("a", 3, LeaseState.EXPIRED)) == []
    assert table.expired_leases() == {"a": 3}
    assert [change.joined for change in table.apply(lease("a", 4, LeaseState.ENDED))] == [False]
    assert table.expired_leases() == {}


def test_a_user_with_a_new_entry_before_the_end_of_the_old_lease_does_not_leave() -> None:
    table = a_table(lease("a", 1), entry("a", 2), lease("a", 3, LeaseState.EXPIRED))

    changes = [
        table.apply(record)
        for record in (lease("a2", 4), entry("a2", 5), lease("a", 6, LeaseState.ENDED))
    ]

    assert changes == [[], [], []]


def test_records_that_the_snapshot_included_change_nothing_later() -> None:
    table = a_table(lease("a", 1), entry("a", 2))
    left = table.become(a_table(lease("a", 1)), up_to=4)

    late = [*table.apply(entry("a", 3)), *table.apply(no_entry("a", 4))]

    assert [change.joined for change in left] == [False]
    assert late == []


def tabs_of(node: str, sequence: int, *tabs: str) -> EntryRecord:
    key = EntryKey((CHANNEL, ANN), NodeId(node))
    return EntryRecord(key, sequence, Entry("Ann", 0, tuple(map(ConnectionId, tabs))))


def told(changes: list[Change]) -> list[str]:
    return [
        f"{change.connection} {'joined' if change.joined else 'left'}"
        for change in changes
        if isinstance(change, ClientChange)
    ]


def test_a_connection_that_two_names_of_its_node_list_neither_leaves_nor_joins() -> None:
    table = PresenceTable(lambda _channel: True)
    records = (lease("a", 1), lease("a2", 2), tabs_of("a", 3, "p", "q"), tabs_of("a2", 4, "q", "r"))

    changes = [told(table.apply(record)) for record in records]

    assert changes == [[], [], ["p joined", "q joined"], ["r joined"]]
    assert table.stats(CHANNEL) == ChannelStats(connections=3, users=1)
    assert told(table.apply(lease("a", 5, LeaseState.ENDED))) == ["p left"]
    assert table.stats(CHANNEL) == ChannelStats(connections=2, users=1)


def test_connections_of_a_channel_that_nobody_watches_are_not_told_of() -> None:
    watched = set[ChannelName]()
    table = PresenceTable(lambda channel: channel in watched)
    table.apply(lease("a", 1))
    assert told(table.apply(tabs_of("a", 2, "p"))) == []

    watched.add(CHANNEL)

    assert told(table.apply(tabs_of("a", 3, "p", "q"))) == ["q joined"]
    assert told(table.apply(no_entry("a", 4))) == ["p left", "q left"]


class Gateway:
    """A table, and the users that follow from the changes that it reported."""

    def __init__(self) -> None:
        self.table = PresenceTable(lambda channel: channel == CHANNEL)
        self.reported: set[tuple[ChannelName, UserId]] = set()
        self.clients: set[tuple[UserId, ConnectionId]] = set()
        """Those of the channel that is watched."""

    def take(self, changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change, ClientChange):
                self.take_client(change)
                continue
            membership = (change.channel, change.user_id)
            assert (membership in self.reported) is not change.joined, "in turns"
            self.reported ^= {membership}
            assert change.count == sum(channel == change.channel for channel, _ in self.reported)

    def take_client(self, change: ClientChange) -> None:
        client = (change.user_id, change.connection)
        assert change.channel == CHANNEL, "nobody asked for another"
        assert (client in self.clients) is not change.joined, "in turns"
        assert (change.channel, change.user_id) in self.reported, "while the user is there"
        self.clients ^= {client}


class OneStreamAndTwoGateways(RuleBasedStateMachine):
    """One gateway is always connected. The other misses messages and then reads a snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence = 0
        self.nodes = 0
        self.content: dict[EntryKey | LeaseKey, Record] = {}
        self.present, self.absent = Gateway(), Gateway()
        self.missed: list[Record] | None = None

    def store(self, record: Record) -> None:
        self.content[record.key] = record
        self.present.take(self.present.table.apply(record))
        if self.missed is None:
            self.absent.take(self.absent.table.apply(record))
        else:
            self.missed.append(record)

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence

    def nodes_in(self, *states: LeaseState) -> list[NodeId]:
        return [
            record.key.node
            for record in self.content.values()
            if isinstance(record, LeaseRecord) and record.state in states
        ]

    @precondition(lambda self: self.nodes < 6)
    @rule()
    def a_node_starts(self) -> None:
        self.nodes += 1
        self.store(lease(f"n{self.nodes}", self.next_sequence()))

    @precondition(lambda self: self.nodes_in(LeaseState.LIVE))
    @rule(data=st.data(), renews=st.booleans())
    def a_lease_is_renewed_or_expires(self, data: st.DataObject, renews: bool) -> None:
        node = data.draw(st.sampled_from(self.nodes_in(LeaseState.LIVE)))
        state = LeaseState.LIVE if renews else LeaseState.EXPIRED
        self.store(lease(node, self.next_sequence(), state))

    @precondition(lambda self: self.nodes_in(LeaseState.EXPIRED))
    @rule(data=st.data(), purges=st.booleans())
    def an_expired_lease_is_ended(self, data: st.DataObject, purges: bool) -> None:
        node = data.draw(st.sampled_from(self.nodes_in(LeaseState.EXPIRED)))
        self.store(lease(node, self.next_sequence(), LeaseState.ENDED))
        if purges:  # which sends no message
            for key in list(self.content):
                if isinstance(key, EntryKey) and key.node == node:
                    del self.content[key]

    @precondition(lambda self: self.nodes)
    @rule(
        data=st.data(),
        channel=channels,
        user=users,
        since=st.integers(0, 3),
        tabs=st.none() | clients,
        unlisted=st.integers(0, 1),
    )
    def an_entry_is_written(
        self,
        data: st.DataObject,
        channel: ChannelName,
        user: UserId,
        since: int,
        tabs: dict[int, ClientInfo | None] | None,
        unlisted: int,
    ) -> None:
        node = NodeId(
            f"n{data.draw(st.integers(1, self.nodes))}"
        )  # perhaps one whose lease has ended
        body = None
        if tabs is not None:
            connections = tuple(ConnectionId(f"tab {tab} of {user}") for tab in tabs)
            body = Entry(f"User {user}", since, connections, tuple(tabs.values()), unlisted)
        self.store(EntryRecord(EntryKey((channel, user), node), self.next_sequence(), body))

    @rule()
    def removals_expire(self) -> None:  # which sends no message
        self.content = {key: record for key, record in self.content.items() if not removes(record)}

    @precondition(lambda self: self.missed is None)
    @rule()
    def one_goes_away(self) -> None:
        self.missed = []

    @precondition(lambda self: self.missed is not None)
    @rule()
    def one_comes_back(self) -> None:
        assert self.missed is not None
        stored = sorted(self.content.values(), key=lambda record: record.sequence)
        self.absent.take(self.absent.table.become(a_table(*stored), self.sequence))
        for record in self.missed:  # as if the follower were behind the snapshot
            assert self.absent.table.apply(record) == []
        self.missed = None

    def entries_that_count(self) -> list[tuple[Membership, Entry]]:
        counting = self.nodes_in(LeaseState.LIVE, LeaseState.EXPIRED)
        return [
            (record.key.membership, record.entry)
            for record in self.content.values()
            if isinstance(record, EntryRecord) and record.entry and record.key.node in counting
        ]

    def truth(self) -> set[tuple[ChannelName, UserId]]:
        return {membership for membership, _ in self.entries_that_count()}

    def clients_in(self, channel: ChannelName) -> set[tuple[UserId, ConnectionId]]:
        return {
            (user_id, connection)
            for (its_channel, user_id), entry in self.entries_that_count()
            for connection in entry.connections
            if its_channel == channel
        }

    @invariant()
    def every_connected_table_is_right(self) -> None:
        assert self.present.reported == self.truth()
        if self.missed is None:
            assert self.absent.reported == self.truth()
            for channel in {channel for channel, _ in self.truth()}:
                assert self.present.table.users(channel) == self.absent.table.users(channel)
            for user in {user for _, user in self.truth()}:
                assert set(self.present.table.channels_of(user)) == set(
                    self.absent.table.channels_of(user)
                )

    @invariant()
    def every_connection_is_told_of(self) -> None:
        assert self.present.clients == self.clients_in(CHANNEL)
        if self.missed is None:
            assert self.absent.clients == self.clients_in(CHANNEL)

    @invariant()
    def connections_are_listed_and_counted(self) -> None:
        entries = self.entries_that_count()
        for channel in {channel for channel, _ in self.truth()}:
            listed = self.clients_in(channel)
            found = self.present.table.clients(channel)
            assert sorted((each.user_id, each.connection) for each in found) == sorted(listed)
            unlisted = [who for (where, who), each in entries if where == channel and each.unlisted]
            connected = {user_id for user_id, _ in listed} | set(unlisted)
            expected = ChannelStats(len(listed) + len(unlisted), len(connected))
            assert self.present.table.stats(channel) == expected

    @invariant()
    def the_channels_of_each_user_are_right(self) -> None:
        table = self.present.table
        assert set(table._channels_of) == {user for _, user in self.truth()}
        for user in table._channels_of:
            found = table.channels_of(user)
            assert sorted(found) == sorted(c for c, each in self.truth() if each == user)

    @invariant()
    def empty_channels_are_dropped(self) -> None:
        channels_kept = set(self.present.table._channels)
        assert channels_kept == {channel for channel, _ in self.truth()}


TestOneStreamAndTwoGateways = OneStreamAndTwoGateways.TestCase
