"""The writer's state of one entry, with a few connections or thousands."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.presence.writer import EntryState
from shared.contracts.ids import ChannelName, ConnectionId, NodeId, UserId
from tests.gateway.presence.gateways import QUICK

MEMBERSHIP = (ChannelName("chat:lobby"), UserId("1"))
NODE = NodeId("0f")
LIMITS = replace(QUICK, max_listed_connections=5)

tabs = st.integers(1, 14).map(lambda number: ConnectionId(f"tab {number}"))


@given(st.lists(tabs, max_size=60))
def test_connections_are_listed_in_the_order_in_which_they_came(walk: list[ConnectionId]) -> None:
    state, expected = EntryState(MEMBERSHIP), dict[ConnectionId, None]()

    for tab in walk:  # each comes and goes in turn
        if tab in expected:
            del expected[tab]
            state.remove(tab)
        else:
            expected[tab] = None
            state.put(tab)

        assert list(state.connections) == list(expected)
        assert bool(state.connections) is bool(expected)
        assert (tab in state.connections) is (tab in expected)
        assert state.entry(LIMITS).connections == tuple(expected)[:5]


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
