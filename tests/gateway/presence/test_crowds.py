"""Crowds: who is announced one by one, and where only the count is told."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.presence.crowds import CountPush, Crowds, NamesPush
from gateway.presence.table import PresenceChange
from shared.contracts.ids import ChannelName, UserId

ROOM, OTHER = ChannelName("chat:big"), ChannelName("chat:small")


class Rooms:
    """Users that come and go, as the table would tell."""

    def __init__(self, *, size: int = 200, resume: int = 160) -> None:
        self.counts = {ROOM: 0, OTHER: 0}
        self.crowds = Crowds(self.counts.__getitem__, size=size, resume=resume)

    def change(self, by: int, room: ChannelName = ROOM) -> bool:
        self.counts[room] += by
        count = self.counts[room]
        return self.crowds.note(PresenceChange(room, UserId(str(count)), "x", by > 0, count))


def test_250_users_cross_the_line_both_ways() -> None:
    rooms = Rooms()

    arrivals = [rooms.change(+1) for _ in range(250)]
    first_tick, idle_tick = rooms.crowds.tick(), rooms.crowds.tick()
    leaves = [rooms.change(-1) for _ in range(90)]
    at_160 = rooms.crowds.tick()
    below = rooms.change(-1)
    resumed = rooms.crowds.tick()

    assert arrivals == [True] * 200 + [False] * 50
    assert (first_tick, idle_tick) == ([CountPush(ROOM, 250)], [])
    assert not any(leaves)
    assert at_160 == [CountPush(ROOM, 160)]
    assert not below, "the names tell of it"
    assert resumed == [NamesPush(ROOM, 159)]
    assert rooms.change(-1), "one by one again"
    assert rooms.crowds.tick() == []


def test_a_crowd_next_door_changes_nothing() -> None:
    rooms = Rooms(size=2, resume=2)
    for _ in range(3):
        rooms.change(+1)

    assert rooms.change(+1, OTHER)
    assert rooms.crowds.is_crowd(ROOM)
    assert not rooms.crowds.is_crowd(OTHER)


def test_a_crowd_that_all_leave_at_once_is_no_crowd() -> None:
    rooms = Rooms(size=2, resume=2)
    for by in (+1, +1, +1, -1, -1, -1):
        rooms.change(by)

    assert rooms.crowds.tick() == [NamesPush(ROOM, 0)]
    assert not rooms.crowds.is_crowd(ROOM)


@pytest.mark.parametrize(("size", "resume"), [(10, 11), (10, 0)])
def test_lines_that_could_not_work_are_refused(size: int, resume: int) -> None:
    with pytest.raises(ValueError, match="crowd"):
        Rooms(size=size, resume=resume)


class ListenersKnowTheCount(RuleBasedStateMachine):
    """Whoever takes every push knows the count after a tick, and outside crowds always."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms = Rooms(size=5, resume=3)
        self.known = 0

    @rule(by=st.sampled_from([+1, +1, -1]))
    def somebody_comes_or_goes(self, by: int) -> None:
        if self.rooms.counts[ROOM] + by >= 0 and self.rooms.change(by):
            self.known = self.rooms.counts[ROOM]

    @rule()
    def a_tick(self) -> None:
        pushes = self.rooms.crowds.tick()
        assert len(pushes) <= 1
        for push in pushes:
            self.known = push.count
        assert self.known == self.rooms.counts[ROOM]
        assert self.rooms.crowds.is_crowd(ROOM) or self.known <= 5

    @invariant()
    def outside_crowds_the_count_is_known(self) -> None:
        if not self.rooms.crowds.is_crowd(ROOM):
            assert self.known == self.rooms.counts[ROOM]


TestListenersKnowTheCount = ListenersKnowTheCount.TestCase
