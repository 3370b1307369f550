"""Who is told of whom, with members that only remember it and a table that is a real one."""

import json
from itertools import count
from typing import cast

import pytest

from gateway.channels.registry import ConnectionManager
from gateway.errors import EndReason
from gateway.presence.presence import Presence
from gateway.presence.records import (
    Entry,
    EntryKey,
    EntryRecord,
    LeaseKey,
    LeaseRecord,
    LeaseState,
    NodeId,
)
from gateway.presence.table import PresenceChange, PresenceTable
from gateway.presence.users import HEAD
from gateway.protocols.chat.announcements import Announcements
from gateway.protocols.chat.codec import PUBLICATION_FORMATS
from gateway.session.session import Session
from gateway.transport.coalescer import WriteCoalescer
from gateway.transport.frames import Frame
from hubbub_client.contracts.channels import room_channel
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import StoredPublication
from shared.runtime.process import running
from tests.gateway.members import AFailingMember, AMember
from tests.gateway.serving import until

ROOM, OTHER_ROOM = room_channel("lobby"), room_channel("kitchen")
ANN, BEN, CEM, DEE = UserId("1"), UserId("2"), UserId("3"), UserId("4")
NAMES = {ANN: "Ann", BEN: "Ben", CEM: "Cem", DEE: "Dee"}
NODE = NodeId("node")


class Lobby:
    """A gateway's tabs, and who is where in the whole cluster."""

    def __init__(self, *, crowd_size: int = 200, crowd_resume: int = 160) -> None:
        self.manager = ConnectionManager(WriteCoalescer(lambda flush: flush()))
        self.table = PresenceTable()
        self.announcements = Announcements(
            self.manager,
            cast(Presence, self.table),
            crowd_size=crowd_size,
            crowd_resume=crowd_resume,
            crowd_seconds=0,
        )
        self._sequences = count(1)
        self.table.apply(LeaseRecord(LeaseKey(NODE), next(self._sequences), LeaseState.LIVE))

    def a_tab(
        self, user_id: UserId, *, channel: ChannelName = ROOM, watches: bool = True
    ) -> AMember:
        return self.listen(AMember(user_id), channel=channel, watches=watches)

    def listen(
        self, member: AMember, *, channel: ChannelName = ROOM, watches: bool = True
    ) -> AMember:
        self.manager.connect(member)
        self.manager.subscribe(member, channel, PUBLICATION_FORMATS[0], 0).watches = watches
        return member

    def come(self, *user_ids: UserId, channel: ChannelName = ROOM) -> None:
        for user_id in user_ids:
            since = next(self._sequences)
            entry = Entry(NAMES.get(user_id, "X"), since, ())
            self._change(EntryRecord(EntryKey((channel, user_id), NODE), since, entry))

    def go(self, *user_ids: UserId, channel: ChannelName = ROOM) -> None:
        for user_id in user_ids:
            key = EntryKey((channel, user_id), NODE)
            self._change(EntryRecord(key, next(self._sequences), None))

    def _change(self, record: EntryRecord) -> None:
        for change in self.table.apply(record):
            assert isinstance(change, PresenceChange)
            self.announcements.announce(change)


def person(user_id: UserId) -> dict[str, object]:
    return {"user_id": int(user_id), "name": NAMES[user_id]}


def test_others_are_told_who_came_and_went_but_not_the_users_own_tabs() -> None:
    lobby = Lobby()
    lobby.come(BEN)
    ann, ben = lobby.a_tab(ANN), lobby.a_tab(BEN)
    arriving, elsewhere = lobby.a_tab(CEM, watches=False), lobby.a_tab(DEE, channel=OTHER_ROOM)

    lobby.come(ANN)
    lobby.go(ANN)

    assert ben.connection.messages == [
        {"type": "user_joined", **person(ANN), "count": 2},
        {"type": "user_left", **person(ANN), "count": 1},
    ]
    assert ann.connection.sent == arriving.connection.sent == elsewhere.connection.sent == []


def test_all_who_watch_are_told_in_the_very_same_frame() -> None:
    lobby = Lobby()
    tabs = [lobby.a_tab(BEN), lobby.a_tab(CEM)]

    lobby.come(ANN)

    one, other = [tab.connection.sent[0] for tab in tabs]
    assert one is other


def test_who_sees_publications_in_another_format_is_told_nothing_in_this_one() -> None:
    def encode_otherwise(publication: StoredPublication) -> Frame:
        return Frame(publication.payload)

    lobby, another = Lobby(), AMember(BEN)
    lobby.manager.connect(another)
    lobby.manager.subscribe(another, ROOM, encode_otherwise, 0).watches = True

    lobby.come(ANN)

    assert another.connection.sent == []


def test_what_fails_for_one_tab_costs_that_tab_and_nobody_else() -> None:
    lobby = Lobby()
    tabs = [lobby.a_tab(ANN), lobby.listen(AFailingMember(BEN)), lobby.a_tab(CEM)]

    lobby.come(DEE)

    assert [len(tab.connection.sent) for tab in tabs] == [1, 0, 1]
    assert [tab.connection.closing for tab in tabs] == [None, EndReason.INTERNAL_ERROR, None]
    assert list(map(str, tabs[1].connection.failures)) == ["a member that fails"]


async def test_a_crowd_hears_how_many_it_is_and_their_names_when_it_is_none_any_more() -> None:
    lobby = Lobby(crowd_size=2, crowd_resume=2)
    tab, arriving = lobby.a_tab(UserId("9")), lobby.a_tab(UserId("9"), watches=False)
    elsewhere = lobby.a_tab(UserId("9"), channel=OTHER_ROOM)
    lobby.come(ANN, BEN)
    assert [message["type"] for message in tab.connection.messages] == ["user_joined"] * 2
    tab.connection.sent.clear()

    async with running(lobby.announcements.run):
        lobby.come(CEM)
        lobby.come(DEE)
        assert tab.connection.sent == [], "that is for the tick"
        await until(lambda: len(tab.connection.sent) == 1)
        lobby.go(ANN, CEM)
        await until(lambda: len(tab.connection.sent) == 2)
        lobby.go(BEN)
        await until(lambda: len(tab.connection.sent) == 3)
    lobby.come(ANN)

    assert tab.connection.messages == [
        {"type": "user_count", "count": 4},
        {"type": "user_count", "count": 2},
        {"type": "users", "users": [person(DEE)], "count": 1},
        {"type": "user_joined", **person(ANN), "count": 2},
    ]
    assert arriving.connection.sent == elsewhere.connection.sent == []


async def test_a_tab_that_fails_keeps_no_crowd_from_hearing_how_many_it_is() -> None:
    lobby = Lobby(crowd_size=1, crowd_resume=1)
    lobby.come(DEE)
    lobby.come(DEE, channel=OTHER_ROOM)
    tabs = [lobby.a_tab(ANN), lobby.listen(AFailingMember(BEN)), lobby.a_tab(CEM)]
    later = lobby.a_tab(CEM, channel=OTHER_ROOM)

    async with running(lobby.announcements.run):
        lobby.come(ANN)
        await until(lambda: bool(tabs[2].connection.sent))
        lobby.come(ANN, channel=OTHER_ROOM)
        await until(lambda: bool(later.connection.sent))

    assert [len(tab.connection.sent) for tab in tabs] == [1, 0, 1]
    assert list(map(str, tabs[1].connection.failures)) == ["a member that fails"]
    for tab in (tabs[0], later):
        assert tab.connection.messages == [{"type": "user_count", "count": 2}]


def test_who_did_not_hear_who_came_and_went_is_told_who_is_in_each_room() -> None:
    lobby = Lobby(crowd_size=2, crowd_resume=1)
    lobby.come(ANN, BEN, CEM)
    lobby.come(DEE, channel=OTHER_ROOM)
    tab, other_tab = lobby.listen(lobby.a_tab(ANN), channel=OTHER_ROOM), lobby.a_tab(BEN)

    lobby.announcements.tell_who_is_here(cast(Session, tab), tab.subscriptions)

    assert tab.connection.messages == [
        {"type": "users", "users": [person(ANN), person(BEN)], "count": 3},
        {"type": "users", "users": [person(DEE)], "count": 1},
    ]
    assert other_tab.connection.sent == []


def test_the_users_are_encoded_once_while_they_are_the_same() -> None:
    lobby = Lobby()
    lobby.come(ANN)
    lobby.come(BEN, channel=OTHER_ROOM)

    before, other = (lobby.announcements.encoded_users(each) for each in (ROOM, OTHER_ROOM))
    again = lobby.announcements.encoded_users(ROOM)
    lobby.come(CEM)
    after = lobby.announcements.encoded_users(ROOM)

    assert again is before
    assert json.loads(before) == [person(ANN)]
    assert json.loads(after) == [person(ANN), person(CEM)]
    assert lobby.announcements.encoded_users(OTHER_ROOM) is other
    assert json.loads(other) == [person(BEN)]


def test_an_empty_room_has_no_users() -> None:
    assert Lobby().announcements.encoded_users(ROOM) == b"[]"


def test_of_a_crowd_the_first_users_are_encoded() -> None:
    lobby = Lobby(crowd_size=2, crowd_resume=1)
    lobby.come(ANN, BEN)
    before = lobby.announcements.encoded_users(ROOM)

    lobby.come(CEM)

    assert lobby.announcements.encoded_users(ROOM) == before
    assert json.loads(before) == [person(ANN), person(BEN)]


def test_users_behind_those_whose_changes_are_counted_are_encoded_each_time() -> None:
    lobby = Lobby(crowd_size=HEAD + 2)
    lobby.come(*(UserId(str(number)) for number in range(1, HEAD + 2)))
    version = lobby.table.head_version(ROOM)
    before = lobby.announcements.encoded_users(ROOM)

    lobby.come(UserId(str(HEAD + 2)))

    assert lobby.table.head_version(ROOM) == version
    assert len(json.loads(before)) == HEAD + 1
    assert len(json.loads(lobby.announcements.encoded_users(ROOM))) == HEAD + 2


def test_a_thousand_rooms_stay_encoded_and_those_that_were_asked_for_last() -> None:
    lobby = Lobby()
    lobby.come(ANN, channel=ROOM)
    lobby.come(ANN, channel=OTHER_ROOM)
    encoded_users = lobby.announcements.encoded_users
    room, other = encoded_users(ROOM), encoded_users(OTHER_ROOM)
    for number in range(998):
        encoded_users(room_channel(f"room-{number}"))
    assert encoded_users(ROOM) is room

    encoded_users(room_channel("one-more"))

    assert encoded_users(ROOM) is room
    assert encoded_users(OTHER_ROOM) == other
    assert encoded_users(OTHER_ROOM) is not other


@pytest.mark.parametrize(("crowd_size", "listed"), [(3, [ANN, BEN, CEM]), (2, [ANN, BEN])])
def test_who_comes_before_the_own_entry_is_the_last_of_the_first_users(
    crowd_size: int, listed: list[UserId]
) -> None:
    lobby = Lobby(crowd_size=crowd_size, crowd_resume=1)
    lobby.come(ANN, BEN)

    encoded = lobby.announcements.encoded_users_with(ROOM, CEM, "Cem")

    assert json.loads(encoded) == [person(user_id) for user_id in listed]
    assert json.loads(lobby.announcements.encoded_users(ROOM)) == [person(ANN), person(BEN)]
