import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from auth_service.hash_queue import HashQueue, Lane, TooBusy

SIGNING_IN, REGISTERING = Lane.SIGNING_IN, Lane.REGISTERING


class Counter:
    """People who come one after the other, and are served when the test says so."""

    def __init__(
        self, group: asyncio.TaskGroup, *, slots: int = 1, max_waiting: int = 10, wait: float = 60
    ) -> None:
        self.queue = HashQueue(slots, max_waiting=max_waiting, wait_seconds=wait)
        self.served: list[str] = []
        self.refused: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._group = group
        self.inside: list[asyncio.Event] = []

    async def comes(self, name: str, *, lane: Lane = SIGNING_IN, address: str = "") -> None:
        self.tasks[name] = self._group.create_task(self._queue(name, lane, address or name))
        await settled()

    async def next(self) -> None:
        self.inside.pop(0).set()
        await settled()

    async def _queue(self, name: str, lane: Lane, address: str) -> None:
        leave = asyncio.Event()
        try:
            async with self.queue.slot(lane, address):
                self.served.append(name)
                self.inside.append(leave)
                await leave.wait()
        except TooBusy:
            self.refused.append(name)


async def settled() -> None:
    """Let everybody go as far as they get."""
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def a_counter(
    *, slots: int = 1, max_waiting: int = 10, wait: float = 60
) -> AsyncGenerator[Counter]:
    async with asyncio.TaskGroup() as group:
        counter = Counter(group, slots=slots, max_waiting=max_waiting, wait=wait)
        yield counter
        while counter.inside:  # so that everybody gets home
            await counter.next()


async def test_addresses_have_their_turns_however_many_one_of_them_sends() -> None:
    async with a_counter() as counter:
        for n in range(5):
            await counter.comes(f"flood-{n}", address="flood")
        await counter.comes("ann")
        await counter.comes("bob")

    assert counter.served == [
        "flood-0", "flood-1", "ann", "bob", "flood-2", "flood-3", "flood-4",
    ]  # fmt: skip


async def test_who_signs_in_goes_before_those_who_register() -> None:
    async with a_counter() as counter:
        for n in range(3):
            await counter.comes(f"new-{n}", lane=REGISTERING)
        await counter.comes("ann")
        await counter.comes("bob")

    assert counter.served == ["new-0", "ann", "bob", "new-1", "new-2"]


async def test_those_who_register_leave_a_slot_to_those_who_sign_in() -> None:
    async with a_counter(slots=3) as counter:
        for n in range(4):
            await counter.comes(f"new-{n}", lane=REGISTERING)
        assert counter.served == ["new-0", "new-1"]

        await counter.comes("ann")
        assert counter.served == ["new-0", "new-1", "ann"]


async def test_who_signs_in_may_have_every_slot() -> None:
    async with a_counter(slots=3) as counter:
        for name in ("ann", "bob", "eve"):
            await counter.comes(name)

        assert counter.served == ["ann", "bob", "eve"]


async def test_with_all_places_taken_the_address_with_most_of_them_gives_one_up() -> None:
    async with a_counter(max_waiting=3) as counter:
        for n in range(6):
            await counter.comes(f"flood-{n}", address="flood")
        assert counter.refused == ["flood-4", "flood-5"]

        await counter.comes("ann")
        assert counter.refused[2:] == ["flood-3"]

    assert counter.served == ["flood-0", "flood-1", "ann", "flood-2"]


async def test_with_a_place_taken_by_each_of_many_addresses_who_comes_then_is_refused() -> None:
    async with a_counter(max_waiting=2) as counter:
        for name in ("served", "ann", "bob", "eve"):
            await counter.comes(name)

        assert counter.refused == ["eve"]
        with pytest.raises(TooBusy):
            counter.queue.refuse_if_full(SIGNING_IN, "eve")
        counter.queue.refuse_if_full(REGISTERING, "eve")


async def test_places_of_one_lane_are_not_taken_by_the_other() -> None:
    async with a_counter(max_waiting=1) as counter:
        await counter.comes("served")
        for n in range(3):
            await counter.comes(f"new-{n}", lane=REGISTERING, address="flood")
        await counter.comes("ann")

        assert counter.refused == ["new-1", "new-2"]


async def test_who_waited_too_long_is_refused_and_keeps_no_place() -> None:
    async with a_counter(max_waiting=1, wait=0) as counter:
        await counter.comes("served")
        await counter.comes("late")
        await counter.tasks["late"]
        assert counter.refused == ["late"]

        counter.queue.refuse_if_full(SIGNING_IN, "another")


async def test_who_goes_away_leaves_the_place_and_the_slot_to_others() -> None:
    async with a_counter() as counter:
        await counter.comes("served")
        await counter.comes("waiting")
        await counter.comes("called")
        await counter.comes("ann")

        counter.tasks["waiting"].cancel()
        await settled()
        counter.inside.pop(0).set()
        await asyncio.sleep(0)  # the slot is free, and given to the next one
        counter.tasks["called"].cancel()
        await settled()

        assert counter.served == ["served", "ann"]
