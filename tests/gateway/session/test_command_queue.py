"""Commands that wait: for the one before, for a sign-in, for a peer that reads."""

import asyncio

from gateway.session.command_queue import CommandQueue
from gateway.session.rate import RateLimits
from tests.gateway.connections import AConnection

NO_LIMIT = RateLimits(commands_per_second=0, burst=1, max_refusals=1)


class Executed(list[int]):
    def __call__(self, command: int) -> bool:
        self.append(command)
        return False


def a_queue(connection: AConnection, max_waiting: int = 8) -> CommandQueue[int]:
    return CommandQueue(connection, NO_LIMIT, max_waiting=max_waiting)


def test_little_is_read_of_who_is_not_signed_in_and_more_once_it_is() -> None:
    connection, executed = AConnection(), Executed()
    queue = a_queue(connection)
    paused = []
    for command in range(5):
        queue.put(command, executed)
        paused.append(connection.is_paused)
    before = list(executed)
    queue.open(executed)

    assert paused == [False, False, False, True, True]
    assert before == []
    assert not connection.is_paused
    assert executed == [0, 1, 2, 3, 4]


def test_what_is_read_on_at_the_sign_in_comes_behind_what_waited() -> None:
    executed = Executed()

    class ReadsOn(AConnection):
        def resume_reading(self) -> None:
            super().resume_reading()
            queue.put(9, executed)

    queue = a_queue(ReadsOn())
    for command in range(4):
        queue.put(command, executed)
    queue.open(executed)

    assert executed == [0, 1, 2, 3, 9]


async def test_nothing_is_executed_for_who_reads_nothing_until_it_does() -> None:
    executed = Executed()
    async with asyncio.TaskGroup() as group:
        connection = AConnection(group)
        queue = a_queue(connection)
        queue.open(executed)
        queue.put(0, executed)
        connection.stall()
        connection.has_room = False
        for command in range(1, 4):
            queue.put(command, executed)
        before = list(executed)
        connection.drain()

    assert before == [0]
    assert executed == [0, 1, 2, 3]


async def test_who_leaves_unread_what_it_asked_for_does_not_keep_its_commands() -> None:
    executed = Executed()
    async with asyncio.TaskGroup() as group:
        connection = AConnection(group)
        queue = a_queue(connection)
        queue.open(executed)
        connection.stall()
        connection.has_room = False
        queue.put(0, executed)
        connection.lose()

    assert executed == [0]
