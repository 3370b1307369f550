"""Waiting for a user: told at once, or told that it is late, and nothing is left behind."""

from gateway.presence.presence import Arrivals
from shared.contracts.ids import ChannelName, UserId
from tests.fixtures.waiting import eventually

LOBBY = ChannelName("chat:lobby")
ANN, BOB = (LOBBY, UserId("1")), (LOBBY, UserId("2"))


async def test_all_who_wait_for_a_user_are_told_and_nobody_else() -> None:
    arrivals, for_ann, for_bob = Arrivals(), list[bool](), list[bool]()
    for _ in range(3):
        arrivals.wait(ANN, 10, for_ann.append)
    arrivals.wait(BOB, 0.2, for_bob.append)
    assert arrivals.waiting == 4

    arrivals.arrive(ANN)

    assert (for_ann, for_bob) == ([True] * 3, [])
    await eventually(lambda: for_bob == [False])
    assert arrivals.waiting == 0
    assert for_ann == [True] * 3


async def test_each_has_a_deadline_of_its_own() -> None:
    arrivals, told = Arrivals(), list[tuple[str, bool]]()
    for name, seconds in (("patient", 10.0), ("hasty", 0.01)):
        arrivals.wait(ANN, seconds, lambda there, name=name: told.append((name, there)))  # type: ignore[misc]

    await eventually(lambda: told == [("hasty", False)])
    arrivals.arrive(ANN)

    assert told == [("hasty", False), ("patient", True)]
    arrivals.arrive(ANN)
    assert len(told) == 2


async def test_who_comes_after_a_time_of_rest_has_a_deadline_too() -> None:
    arrivals, told = Arrivals(), list[bool]()
    arrivals.wait(ANN, 0.01, told.append)
    await eventually(lambda: told == [False] and not arrivals.is_sweeping)

    arrivals.wait(BOB, 0.01, told.append)

    await eventually(lambda: told == [False, False])
    await eventually(lambda: not arrivals.is_sweeping)
    assert arrivals.waiting == 0


async def test_who_is_told_may_wait_again_at_once() -> None:
    arrivals, told = Arrivals(), list[bool]()

    def wait_again(is_there: bool) -> None:
        told.append(is_there)
        arrivals.wait(ANN, 0.01, told.append)

    arrivals.wait(ANN, 10, wait_again)
    arrivals.wait(BOB, 0.01, wait_again)
    arrivals.arrive(ANN)
    assert told == [True]

    await eventually(lambda: told == [True, False, False, False])
