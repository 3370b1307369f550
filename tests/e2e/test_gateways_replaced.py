"""Gateways that die, and gateways that are replaced: what their tabs notice of it."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from tests.e2e.people import a_room, sign_up, sign_up_all
from tests.e2e.promises import (
    assert_each_once_in_order,
    eventually,
    everybody_talking,
    passing_tabs_of,
    present,
    tabs_of,
    until_nobody_is_connected,
    until_present,
)
from tests.e2e.reach import connections
from tests.e2e.stack import Stack
from tests.system.tab import Tab, open_tab

RESTARTING, NOT_READY = 1012, 1013
LEAVES_SECONDS = 30.0
"""A lease of 10 s, a renewal before, the way of the news, and what a busy machine takes more."""


async def test_tabs_of_a_killed_gateway_go_on_at_the_other_and_who_does_not_leaves_once(
    stack: Stack,
) -> None:
    await until_nobody_is_connected(stack)
    room = a_room()
    passing_people = await sign_up_all(stack, "Ann", "Bob", "Cid", "Dan")
    people = await sign_up_all(stack, "Eve", "Fay", "Gus", "Hal")
    async with (
        passing_tabs_of(stack, passing_people, room) as passing,
        tabs_of(stack, people, room) as tabs,
    ):
        async with everybody_talking(tabs) as said:
            await tabs[0].until_has({"u0-5"})
            stack.gateways[0].kill()
            await eventually(
                lambda: connections(stack.gateways[1]) == len(tabs) + _still_open(passing)
            )
            came_by = zip(passing_people, passing, strict=True)
            left = {person.id for person, tab in came_by if tab.closed}
            stay = {person.id for person in (*people, *passing_people)} - left
            for tab in tabs:
                await until_present(tab, stay, seconds=LEAVES_SECONDS)
        await assert_each_once_in_order(tabs, said)

        await asyncio.to_thread(stack.gateways[0].start)
        await asyncio.to_thread(stack.gateways[0].until_ready)
        late = await sign_up(stack, "Ivy")
        async with AsyncExitStack() as newcomers:
            opened: list[Tab] = []
            while not await asyncio.to_thread(connections, stack.gateways[0]):
                opening = open_tab(stack.ws_url, late.token, room)
                opened.append(await newcomers.enter_async_context(opening))
            await opened[-1].say("m", "from the one that is back")
            for tab in tabs:
                await tab.until_has({"from the one that is back"})

    assert left, "some were on the one that died"
    assert any(len(tab.of_type("welcome")) > 1 for tab in tabs), "some did reconnect"
    for tab in tabs:
        leaves = [
            frame["user_id"]
            for frame in tab.of_type("user_left")
            if frame["user_id"] != late.id  # who may be seen to go before the others do
        ]
        assert len(leaves) == len(set(leaves)), "once"
        assert set(leaves) <= left, "nobody leaves who has come back"


def _still_open(tabs: Sequence[Tab]) -> int:
    return sum(tab.closed is None for tab in tabs)


async def test_replacing_both_gateways_under_load_loses_nothing_and_nobody_seems_to_leave(
    stack: Stack,
) -> None:
    people = await sign_up_all(stack, "Ann", "Bob", "Cid", "Dan")
    statuses = []
    async with tabs_of(stack, people, a_room()) as tabs:
        async with everybody_talking(tabs) as said:
            await tabs[0].until_has({"u0-5"})
            for gateway in stack.gateways:
                statuses.append(await asyncio.to_thread(gateway.replace))
                await asyncio.to_thread(gateway.until_ready)
        await assert_each_once_in_order(tabs, said)
        here = [present(tab) for tab in tabs]

    assert statuses == [0, 0]
    assert sum(map(len, said)) > len(tabs) * 5
    for tab in tabs:
        assert len(tab.of_type("welcome")) > 1, "its gateway went, and it came back"
        assert {code for code, _ in tab.closes} <= {RESTARTING, NOT_READY}, "it was asked to"
        assert not tab.of_type("user_left")
    assert here == [{person.id for person in people}] * len(tabs)
