"""Waiters are called when the user joins or at their deadline, once, and nothing is left behind."""

from gateway.presence.waiters import JoinWaiters
from shared.contracts.ids import ChannelName, UserId
from tests.fixtures.waiting import eventually

LOBBY = ChannelName("chat:lobby")
ANN, BOB = (LOBBY, UserId("1")), (LOBBY, UserId("2"))


async def test_all_waiters_of_a_user_are_called_and_no_others() -> None:
    waiters, for_ann, for_bob = JoinWaiters(), list[bool](), list[bool]()
    for _ in range(3):
        waiters.add(ANN, 10, for_ann.append)
    waiters.add(BOB, 0.2, for_bob.append)
    assert len(waiters) == 4

    waiters.joined(ANN)

    assert (for_ann, for_bob) == ([True] * 3, [])
    await eventually(lambda: for_bob == [False])
    assert len(waiters) == 0
    assert for_ann == [True] * 3


async def test_each_waiter_has_its_own_deadline() -> None:
    waiters, told = JoinWaiters(), list[tuple[str, bool]]()
    for name, seconds in (("patient", 10.0), ("hasty", 0.01)):
        waiters.add(ANN, seconds, lambda there, name=name: told.append((name, there)))  # type: ignore[misc]

    await eventually(lambda: told == [("hasty", False)])
    waiters.joined(ANN)

    assert told == [("hasty", False), ("patient", True)]
    waiters.joined(ANN)
    assert len(told) == 2


async def test_a_waiter_that_comes_when_the_timer_has_ended_has_a_deadline_too() -> None:
    waiters, told = JoinWaiters(), list[bool]()
    waiters.add(ANN, 0.01, told.append)
    await eventually(lambda: told == [False] and not waiters.has_timer)

    waiters.add(BOB, 0.01, told.append)

    await eventually(lambda: told == [False, False])
    await eventually(lambda: not waiters.has_timer)
    assert len(waiters) == 0


async def test_a_waiter_that_is_called_may_wait_again_at_once() -> None:
    waiters, told = JoinWaiters(), list[bool]()

    def wait_again(is_there: bool) -> None:
        told.append(is_there)
        waiters.add(ANN, 0.01, told.append)

    waiters.add(ANN, 10, wait_again)
    waiters.add(BOB, 0.01, wait_again)
    waiters.joined(ANN)
    assert told == [True]

    await eventually(lambda: told == [True, False, False, False])
