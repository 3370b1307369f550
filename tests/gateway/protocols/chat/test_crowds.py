"""Crowds: who is announced one by one, and where only the count is told."""

from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.presence.table import PresenceChange
from gateway.protocols.chat.announcements import Crowds
from hubbub_client.contracts.ids import ChannelName, UserId

ROOM, OTHER = ChannelName("chat:big"), ChannelName("chat:small")


class Told(NamedTuple):
    channel: ChannelName
    users: int
    by_name: bool


class Rooms:
    """Users that come and go, as the table would tell."""

    def __init__(self, *, size: int = 200, resume: int = 160) -> None:
        self.counts = {ROOM: 0, OTHER: 0}
        self.crowds = Crowds(self.counts.__getitem__, size=size, resume=resume)

    def change(self, by: int, room: ChannelName = ROOM) -> bool:
        self.counts[room] += by
        count = self.counts[room]
        return self.crowds.note(PresenceChange(room, UserId(str(count)), "x", by > 0, count))

    def tick(self) -> list[Told]:
        """What the listeners of each changed channel are told after a tick."""
        return [
            Told(channel, self.counts[channel], by_name=not self.crowds.is_crowd(channel))
            for channel in self.crowds.tick()
        ]


def test_250_users_cross_the_line_both_ways() -> None:
    rooms = Rooms()

    arrivals = [rooms.change(+1) for _ in range(250)]
    first_tick, idle_tick = rooms.tick(), rooms.tick()
    leaves = [rooms.change(-1) for _ in range(90)]
    at_160 = rooms.tick()
    below = rooms.change(-1)
    resumed = rooms.tick()

    assert arrivals == [True] * 200 + [False] * 50
    assert (first_tick, idle_tick) == ([Told(ROOM, 250, by_name=False)], [])
    assert not any(leaves)
    assert at_160 == [Told(ROOM, 160, by_name=False)]
    assert not below, "the names tell of it"
    assert resumed == [Told(ROOM, 159, by_name=True)]
    assert rooms.change(-1), "one by one again"
    assert rooms.tick() == []


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

    assert rooms.tick() == [Told(ROOM, 0, by_name=True)]
    assert not rooms.crowds.is_crowd(ROOM)


@pytest.mark.parametrize(("size", "resume"), [(10, 11), (10, 0)])
def test_lines_that_could_not_work_are_refused(size: int, resume: int) -> None:
    with pytest.raises(ValueError, match="crowd"):
        Rooms(size=size, resume=resume)


class ListenersKnowTheCount(RuleBasedStateMachine):
    """Whoever takes every push knows the count after a tick, and outside crowds always.

    There he knows the names, too: those that came and went unannounced are told anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rooms = Rooms(size=5, resume=3)
        self.known = 0
        self.names_are_known = True

    @rule(by=st.sampled_from([+1, +1, -1]))
    def somebody_comes_or_goes(self, by: int) -> None:
        if self.rooms.counts[ROOM] + by >= 0:
            if self.rooms.change(by):
                self.known = self.rooms.counts[ROOM]
            else:
                self.names_are_known = False

    @rule()
    def a_tick(self) -> None:
        pushes = self.rooms.tick()
        assert len(pushes) <= 1
        for push in pushes:
            self.known = push.users
            self.names_are_known = push.by_name
        assert self.known == self.rooms.counts[ROOM]
        assert self.rooms.crowds.is_crowd(ROOM) or self.known <= 5

    @invariant()
    def outside_crowds_all_is_known(self) -> None:
        if not self.rooms.crowds.is_crowd(ROOM):
            assert self.known == self.rooms.counts[ROOM]
            assert self.names_are_known


TestListenersKnowTheCount = ListenersKnowTheCount.TestCase
