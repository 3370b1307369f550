"""What the writer knows of one entry: the connections of a few tabs or of thousands."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.presence.writer import EntryState
from shared.contracts.ids import ChannelName, ConnectionId, NodeId, UserId

PLACE = (ChannelName("chat:lobby"), UserId("1"))
NODE = NodeId("0f")

tabs = st.integers(1, 14).map(lambda number: ConnectionId(f"tab {number}"))


@given(st.lists(tabs, max_size=60))
def test_connections_are_listed_in_the_order_in_which_they_came(walk: list[ConnectionId]) -> None:
    slot, expected = EntryState(PLACE), dict[ConnectionId, None]()

    for tab in walk:  # each comes and goes in turn
        if tab in expected:
            del expected[tab]
            slot.remove(tab)
        else:
            expected[tab] = None
            slot.add(tab)

        assert list(slot.connections) == list(expected)
        assert bool(slot.connections) is bool(expected)
        assert (tab in slot.connections) is (tab in expected)
        assert slot.entry(5).connections == tuple(expected)[:5]


def test_what_is_written_is_the_version_that_was_sent() -> None:
    slot = EntryState(PLACE)
    assert not slot.is_written
    slot.version, slot.written, slot.node = 1, 1, NODE
    assert slot.is_written

    slot.mark_stale(NODE)

    assert not slot.is_written
    assert slot.node == NODE


def test_what_was_written_under_an_earlier_name_is_forgotten() -> None:
    slot = EntryState(PLACE)
    slot.version, slot.written, slot.node = 1, 1, NODE
    slot.acknowledged = slot.seen = 7

    slot.forget_written()

    assert not slot.is_written
    assert slot.node is None
    assert slot.acknowledged == slot.seen == 0
