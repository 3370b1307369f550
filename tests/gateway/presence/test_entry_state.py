"""The writer's state of one entry, with a few connections or thousands."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.presence.records import ClientInfo, Entry, NodeId
from gateway.presence.writer import EntryState
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from tests.gateway.presence.client_infos import client_infos
from tests.gateway.presence.gateways import QUICK

MEMBERSHIP = (ChannelName("chat:lobby"), UserId("1"))
NODE = NodeId("0f")
LIMITS = replace(QUICK, max_listed_connections=5)

tabs = st.integers(1, 14).map(lambda number: ConnectionId(f"tab {number}"))


clients = st.tuples(tabs, client_infos)

Expected = dict[ConnectionId, ClientInfo | None]


@given(st.lists(clients, max_size=60))
def test_connections_are_listed_in_the_order_in_which_they_came(
    walk: list[tuple[ConnectionId, ClientInfo | None]],
) -> None:
    state, expected = EntryState(MEMBERSHIP), Expected()

    for tab, info in walk:  # each comes and goes in turn
        if tab in expected:
            del expected[tab]
            state.remove(tab)
        else:
            expected[tab] = info
            state.put(tab, info)

        assert list(state.connections) == list(expected)
        assert bool(state.connections) is bool(expected)
        assert (tab in state.connections) is (tab in expected)
        assert state.info_of(tab) == expected.get(tab)
        entry = state.entry(LIMITS)
        assert list(entry.clients()) == list(expected.items())[:5]
        assert entry.connection_count == len(expected)


@given(st.lists(clients, max_size=20))
def test_a_connection_that_enters_again_has_its_last_info(
    walk: list[tuple[ConnectionId, ClientInfo | None]],
) -> None:
    state, expected = EntryState(MEMBERSHIP), Expected()

    for tab, info in walk:
        state.put(tab, info)
        expected[tab] = info

    assert list(state.entry(QUICK).clients()) == list(expected.items())


@given(st.dictionaries(tabs, client_infos), st.integers(150, 500))
def test_an_entry_lists_no_more_than_fits(listed: Expected, max_listed_bytes: int) -> None:
    state = EntryState(MEMBERSHIP)
    for tab, info in listed.items():
        state.put(tab, info)
    limits = replace(QUICK, max_listed_bytes=max_listed_bytes, max_info_bytes=60)

    entry = state.entry(limits)

    frame = Entry(entry.name, entry.since, (), (), entry.unlisted).encode()
    assert len(entry.encode()) - len(frame) <= max_listed_bytes + len(',"infos":[]')
    assert entry.connection_count == len(listed)
    assert bool(entry.connections) is bool(listed), "there is room for one"


def test_nothing_of_an_info_is_kept_when_its_connection_has_left() -> None:
    state = EntryState(MEMBERSHIP)
    state.put(ConnectionId("a"), ClientInfo(b"1"))
    state.remove(ConnectionId("a"))

    assert state.connections == ()


def test_a_state_is_written_when_its_version_was() -> None:
    state = EntryState(MEMBERSHIP)
    assert not state.is_written
    state.version, state.written, state.node = 1, 1, NODE
    assert state.is_written

    state.mark_stale(NODE)

    assert not state.is_written
    assert state.node == NODE


def test_what_was_written_under_an_earlier_name_is_forgotten() -> None:
    state = EntryState(MEMBERSHIP)
    state.version, state.written, state.node = 1, 1, NODE
    state.acknowledged = state.seen = 7

    state.forget_written()

    assert not state.is_written
    assert state.node is None
    assert state.acknowledged == state.seen == 0
