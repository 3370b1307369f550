"""Waiters are called when the user joins or at their deadline, once, and nothing is left behind."""

from gateway.presence.records import Membership
from gateway.presence.waiters import JoinWaiters
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from tests.fixtures.waiting import eventually

LOBBY = ChannelName("chat:lobby")
ANN, BOB = (LOBBY, UserId("1")), (LOBBY, UserId("2"))
TAB, ANOTHER_TAB = ConnectionId("tab"), ConnectionId("another tab")


class Room:
    """Who is there, and who waits for them."""

    def __init__(self) -> None:
        self._there = set[tuple[Membership, ConnectionId | None]]()
        self.waiters = JoinWaiters(lambda *sought: sought in self._there)

    def joined(self, membership: Membership, connection: ConnectionId = TAB) -> None:
        self._there |= {(membership, None), (membership, connection)}
        self.waiters.look([membership])


async def test_all_waiters_of_a_user_are_called_and_no_others() -> None:
    room, for_ann, for_bob = Room(), list[bool](), list[bool]()
    for _ in range(3):
        room.waiters.add(ANN, 10, for_ann.append)
    room.waiters.add(BOB, 0.2, for_bob.append)
    assert len(room.waiters) == 4

    room.joined(ANN)

    assert (for_ann, for_bob) == ([True] * 3, [])
    await eventually(lambda: for_bob == [False])
    assert len(room.waiters) == 0
    assert for_ann == [True] * 3


async def test_each_waiter_has_its_own_deadline() -> None:
    room, told = Room(), list[tuple[str, bool]]()
    for name, seconds in (("patient", 10.0), ("hasty", 0.01)):
        room.waiters.add(ANN, seconds, lambda there, name=name: told.append((name, there)))  # type: ignore[misc]

    await eventually(lambda: told == [("hasty", False)])
    room.joined(ANN)

    assert told == [("hasty", False), ("patient", True)]
    room.joined(ANN)
    assert len(told) == 2


async def test_a_waiter_that_comes_when_the_timer_has_ended_has_a_deadline_too() -> None:
    room, told = Room(), list[bool]()
    room.waiters.add(ANN, 0.01, told.append)
    await eventually(lambda: told == [False] and not room.waiters.has_timer)

    room.waiters.add(BOB, 0.01, told.append)

    await eventually(lambda: told == [False, False])
    await eventually(lambda: not room.waiters.has_timer)
    assert len(room.waiters) == 0


async def test_a_waiter_that_is_called_may_wait_again_at_once() -> None:
    room, told = Room(), list[bool]()

    def wait_again(is_there: bool) -> None:
        told.append(is_there)
        room.waiters.add(BOB, 0.01, told.append)

    room.waiters.add(ANN, 10, wait_again)
    room.waiters.add(BOB, 0.01, wait_again)
    room.joined(ANN)
    assert told == [True]

    await eventually(lambda: told == [True, False, False, False])


async def test_who_waits_for_a_connection_is_not_told_of_another() -> None:
    room, told = Room(), list[bool]()
    room.waiters.add(ANN, 10, told.append, TAB)

    room.joined(ANN, ANOTHER_TAB)
    assert told == []

    room.joined(ANN, TAB)
    assert told == [True]


async def test_who_waits_for_what_is_there_is_told_at_once() -> None:
    room, told = Room(), list[bool]()
    room.joined(ANN)

    room.waiters.add(ANN, 10, told.append, TAB)

    assert told == [True]
    assert not room.waiters.has_timer
