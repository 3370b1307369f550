"""NATS and PostgreSQL gone for a while: what goes on, and what arrives afterwards."""

import asyncio

import httpx2

from tests.e2e.people import a_client, a_room, an_email, sign_up_all
from tests.e2e.promises import (
    AWAY_SECONDS,
    POLL_SECONDS,
    assert_each_once_in_order,
    eventually,
    everybody_talking,
    passing_tabs_of,
    tabs_of,
)
from tests.e2e.stack import Stack
from tests.system.tab import Frame, Tab


def _nobody_is_ready(stack: Stack) -> bool:
    return all(gateway.get("/readyz").status == 503 for gateway in stack.gateways)


async def _error_of(tab: Tab, identifier: str) -> Frame:
    return await tab.until(lambda f: f["type"] == "error" and f["id"] == identifier)


async def test_while_nats_hangs_publishing_is_refused_for_now_and_nothing_is_lost_after(
    stack: Stack,
) -> None:
    people = await sign_up_all(stack, "Ann", "Bob", "Cid", "Dan")
    room = a_room()
    async with tabs_of(stack, people, room) as tabs, tabs_of(stack, people[:1], room) as [asker]:
        async with everybody_talking(tabs) as said:
            await tabs[0].until_has({"u0-3"})
            await asyncio.to_thread(stack.nats.pause)
            await asker.send(type="message", id="a", body="not now")
            error = await _error_of(asker, "a")
            await asyncio.to_thread(stack.nats.go_on)
            await asker.say("b", "now")
        # It may have been stored after all: the next try under its id would have told.
        await asker.say("a", "not now")
        await assert_each_once_in_order([*tabs, asker], [*said, ["now"], ["not now"]])

    assert error["code"] == "unavailable"
    assert [len(tab.of_type("welcome")) for tab in tabs] == [1] * len(tabs), "sockets are kept"


async def test_gateways_cut_off_from_nats_are_not_ready_and_catch_up_when_it_is_found_again(
    stack: Stack,
) -> None:
    people = await sign_up_all(stack, "Ann", "Bob", "Cid", "Dan")
    async with tabs_of(stack, people, a_room()) as tabs:
        async with everybody_talking(tabs) as said:
            await tabs[0].until_has({"u0-3"})
            await asyncio.to_thread(stack.nats.cut_off)
            await eventually(lambda: _nobody_is_ready(stack))
            await asyncio.to_thread(stack.nats.reconnect)
        await assert_each_once_in_order(tabs, said)

    assert [len(tab.of_type("welcome")) for tab in tabs] == [1] * len(tabs), "sockets are kept"


async def test_what_was_acked_survives_the_death_of_nats_and_likes_of_meanwhile_arrive(
    stack: Stack,
) -> None:
    people = await sign_up_all(stack, "Ann", "Bob", "Cid", "Dan")
    author, *likers = people
    async with tabs_of(stack, people, a_room()) as tabs, author.client(stack) as client:
        made = await client.post("/posts", json={"title": "Engines", "body": "…"})
        post_id = made.json()["id"]
        async with everybody_talking(tabs) as said:
            await tabs[0].until_has({"u0-3"})
            await asyncio.to_thread(stack.nats.kill)
            liked = []
            for liker in likers:
                async with liker.client(stack) as reader:
                    liked.append(await reader.put(f"/posts/{post_id}/like"))
            await asyncio.to_thread(stack.nats.start)
            await tabs[0].until(lambda frame: frame.get("liked_by") == likers[-1].name)
        await assert_each_once_in_order(tabs, said)

    assert [answer.json()["like_count"] for answer in liked] == [1, 2, 3]
    told = [frame["liked_by"] for frame in tabs[0].of_type("notification")]
    assert told == [liker.name for liker in likers]
    assert [len(tab.of_type("welcome")) for tab in tabs] == [1] * len(tabs), "sockets are kept"


async def test_without_postgresql_chat_goes_on_posts_answer_503_and_likes_arrive_afterwards(
    stack: Stack,
) -> None:
    ada, grace = await sign_up_all(stack, "Ada", "Grace")
    room = a_room()
    async with (
        passing_tabs_of(stack, [ada, grace], room) as [adas, graces],
        ada.client(stack) as author,
        grace.client(stack) as reader,
    ):
        made = await author.post("/posts", json={"title": "Engines", "body": "…"})
        like = f"/posts/{made.json()['id']}/like"

        await asyncio.to_thread(stack.postgres.kill)
        refused = [await reader.put(like), await reader.get("/posts"), await _sign_in(stack)]
        await graces.say("m", "we chat on")
        await adas.until_has({"we chat on"})
        async with passing_tabs_of(stack, [grace], room) as [late]:
            await late.say("n", "newcomers too")
            await adas.until_has({"newcomers too"})
        assert not adas.of_type("notification")

        await asyncio.to_thread(stack.postgres.start)
        await eventually(lambda: stack.posts.get("/readyz").status == 200)
        async with asyncio.timeout(AWAY_SECONDS):
            while (liked := await reader.put(like)).status_code == 503:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
        notified = await adas.until(lambda frame: frame["type"] == "notification")

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [
        (503, "unavailable")
    ] * 3
    assert liked.json() == {"liked": True, "like_count": 1}
    assert notified["liked_by"] == "Grace"
    assert [adas.closed, graces.closed] == [None, None]


async def _sign_in(stack: Stack) -> httpx2.Response:
    async with a_client(stack) as client:
        form = {"username": an_email(), "password": "whatever it may be"}
        return await client.post("/auth/token", data=form)
