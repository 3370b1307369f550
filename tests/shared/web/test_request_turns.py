"""When requests begin, by an application that only notes in which turn of the loop it does."""

import asyncio
from collections import Counter

import pytest
from starlette.types import Message, Receive, Scope, Send

from shared.web.request_turns import RequestTurns


class Notes:
    """An application, and a count of the turns of the loop."""

    def __init__(self) -> None:
        self.turn = 0
        self.begun: list[tuple[str, int]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.append((scope["path"], self.turn))

    async def count_turns(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turn += 1


async def receive() -> Message:
    raise NotImplementedError


async def send(message: Message) -> None:
    raise NotImplementedError


def a_scope(path: str, kind: str = "http") -> Scope:
    return {"type": kind, "path": path}


async def test_of_many_requests_a_few_begin_in_each_turn_in_the_order_in_which_they_came() -> None:
    notes = Notes()
    app = RequestTurns(notes)
    paths = [f"/{number}" for number in range(100)]

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(notes.count_turns())
        requests = [group.create_task(app(a_scope(path), receive, send)) for path in paths]
        await asyncio.wait(requests)
        counting.cancel()

    assert [path for path, _ in notes.begun] == paths
    assert max(Counter(turn for _, turn in notes.begun).values()) <= 10


async def test_who_gives_up_waiting_takes_no_turn_and_nobody_along() -> None:
    notes = Notes()
    app = RequestTurns(notes)

    async with asyncio.TaskGroup() as group:
        requests = [
            group.create_task(app(a_scope(f"/{number}"), receive, send)) for number in range(40)
        ]
        await asyncio.sleep(0)
        for each in requests[20:30]:
            each.cancel()

    assert len(notes.begun) == 30


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_no_request_waits_for_nobody(kind: str) -> None:
    notes = Notes()
    app = RequestTurns(notes)

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(app(a_scope(f"/{number}"), receive, send))
        other = group.create_task(app(a_scope("/other", kind), receive, send))
        await other
        assert len(notes.begun) < 20
