"""Waiting for a user: told at once, or told that it is late, and nothing is left behind."""

import asyncio

from gateway.presence.arrivals import Arrivals
from shared.ids import ChannelName, UserId
from tests.fixtures.waiting import eventually

LOBBY = ChannelName("chat:lobby")
ANN, BOB = (LOBBY, UserId(1)), (LOBBY, UserId(2))


async def test_all_who_wait_for_a_user_are_told_and_nobody_else() -> None:
    arrivals = Arrivals()
    async with asyncio.TaskGroup() as group:
        for_ann = [group.create_task(arrivals.wait(ANN, 10)) for _ in range(3)]
        for_bob = group.create_task(arrivals.wait(BOB, 0.2))
        await eventually(lambda: arrivals.waiting == 4)
        arrivals.tell(ANN)

    assert [waited.result() for waited in for_ann] == [True] * 3
    assert not for_bob.result()
    assert arrivals.waiting == 0


async def test_each_has_a_deadline_of_its_own() -> None:
    arrivals = Arrivals()
    async with asyncio.TaskGroup() as group:
        patient = group.create_task(arrivals.wait(ANN, 10))
        hasty = group.create_task(arrivals.wait(ANN, 0.01))
        await eventually(hasty.done)
        assert not patient.done()
        arrivals.tell(ANN)

    assert (patient.result(), hasty.result()) == (True, False)


async def test_who_comes_after_a_time_of_rest_has_a_deadline_too() -> None:
    arrivals = Arrivals()
    assert not await arrivals.wait(ANN, 0.01)
    await eventually(lambda: not arrivals.is_sweeping)

    assert not await arrivals.wait(BOB, 0.01)


async def test_of_who_gave_up_waiting_nothing_is_left() -> None:
    arrivals = Arrivals()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(arrivals.wait(ANN, 10))
        await eventually(lambda: arrivals.waiting == 1)
        waiting.cancel()

    assert arrivals.waiting == 0
    arrivals.tell(ANN)
    await eventually(lambda: not arrivals.is_sweeping)
