"""What the system is for, from outside: one address, and clients that know nothing else."""

import asyncio

from tests.e2e.people import a_room, sign_up_all
from tests.e2e.promises import (
    AWAY_SECONDS,
    POLL_SECONDS,
    passing_tabs_of,
    until_nobody_is_connected,
)
from tests.e2e.reach import connections
from tests.e2e.stack import Stack
from tests.system.tab import Tab


async def test_from_sign_up_over_chat_to_a_like_that_reaches_all_tabs_on_both_gateways(
    stack: Stack,
) -> None:
    await until_nobody_is_connected(stack)
    ada, grace = await sign_up_all(stack, "Ada", "Grace")
    people = [ada, grace, ada, grace]
    async with (
        passing_tabs_of(stack, people, a_room()) as tabs,
        ada.client(stack) as author,
        grace.client(stack) as reader,
    ):
        for gateway in stack.gateways:
            assert await asyncio.to_thread(connections, gateway) > 0, "tabs land on both"
        for number, tab in enumerate(tabs):
            await tab.say(f"m{number}", f"line {number}")
        for tab in tabs:
            await tab.until_has({f"line {number}" for number in range(len(tabs))})

        made = await author.post("/posts", json={"title": "Engines", "body": "…"})
        assert made.status_code == 201, made.text
        post_id = made.json()["id"]
        liked = await reader.post(f"/posts/{post_id}/like")
        notified = [await _notification(tab) for tab in tabs[::2]]
        await tabs[1].say("last", "all that was to come has come")
        for tab in tabs:
            await tab.until(lambda frame: frame.get("body", "").startswith("all that"))

    assert liked.json() == {"liked": True, "like_count": 1}
    assert notified[0] == notified[1]
    assert (notified[0]["event"], notified[0]["post_id"]) == ("post_liked", post_id)
    assert (notified[0]["post_title"], notified[0]["liked_by"]) == ("Engines", "Grace")
    assert [len(tab.of_type("notification")) for tab in tabs] == [1, 0, 1, 0]
    for tab in tabs:
        offsets = [frame["offset"] for frame in tab.of_type("message")]
        assert offsets == sorted(set(offsets))
        assert len(offsets) == len(tabs) + 1


async def _notification(tab: Tab) -> dict[str, object]:
    return await tab.until(lambda frame: frame["type"] == "notification")


async def test_signing_out_ends_the_sessions_sockets_on_every_gateway_and_nobody_elses(
    stack: Stack,
) -> None:
    ada, grace = await sign_up_all(stack, "Ada", "Grace")
    async with (
        passing_tabs_of(stack, [ada, grace, ada, grace], a_room()) as tabs,
        ada.client(stack) as client,
    ):
        assert (await client.post("/auth/logout")).status_code == 204
        closes = [await tab.until_closed() for tab in tabs[::2]]
        await tabs[1].say("m", "we are still here")
        await tabs[3].until_has({"we are still here"})
        async with asyncio.timeout(AWAY_SECONDS):
            while (await client.get("/posts")).status_code != 401:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)  # it hears of that by a way of its own

    assert closes == [(1008, "Session ended")] * 2
    assert [tab.closed for tab in tabs[1::2]] == [None, None]
