"""What users of two gateways see of each other."""

import asyncio
from contextlib import AsyncExitStack
from unittest.mock import ANY

from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import connect_bus
from shared.tokens.revocations import UserRevoked
from tests.system.conftest import System, a_room, a_token
from tests.system.tab import DEADLINE_SECONDS, Tab, open_tab


async def test_a_like_reaches_all_tabs_of_the_author_on_both_gateways(standing: System) -> None:
    ada, grace, room = a_token(1, "Ada"), a_token(2, "Grace"), a_room()
    async with AsyncExitStack() as stack:
        adas = [
            await stack.enter_async_context(open_tab(url, ada, room))
            for url in [*standing.ws_urls, standing.ws_urls[0]]
        ]
        graces = await stack.enter_async_context(open_tab(standing.ws_urls[1], grace, room))
        author = await stack.enter_async_context(standing.posts_client(1, "Ada"))
        liker = await stack.enter_async_context(standing.posts_client(2, "Grace"))

        post = (await author.post("/posts", json={"title": "Engines", "body": "…"})).json()
        await author.post(f"/posts/{post['id']}/like")  # one's own: nobody is told
        liked = (await liker.post(f"/posts/{post['id']}/like")).json()
        notified = [await tab.until(lambda f: f["type"] == "notification") for tab in adas]
        await graces.say("last", "all that was to come has come")
        for tab in adas:
            await tab.until(lambda f: f["type"] == "message")

    assert liked == {"liked": True, "like_count": 2}
    for frame in notified:
        assert frame["event"] == "post_liked"
        assert (frame["post_id"], frame["post_title"]) == (post["id"], "Engines")
        assert frame["liked_by"] == "Grace"
        assert frame == notified[0]
    assert [len(tab.of_type("notification")) for tab in [*adas, graces]] == [1, 1, 1, 0]


async def test_a_user_with_any_id_chats_posts_is_notified_and_is_signed_out(
    standing: System,
) -> None:
    ada, grace, room = "6f1c8a52-0d3f-4a52-9a0c-3a1b1c5d7e90", "auth0|5.f*7>c~", a_room()
    async with (
        open_tab(standing.ws_urls[0], a_token(ada, "Ada"), room) as one,
        open_tab(standing.ws_urls[1], a_token(ada, "Ada"), room) as two,
        open_tab(standing.ws_urls[1], a_token(grace, "Grace"), room) as other,
        standing.posts_client(ada, "Ada") as author,
        standing.posts_client(grace, "Grace") as liker,
    ):
        joined = await one.until(lambda f: f["type"] == "user_joined")
        await other.say("m1", "hello")
        said = [await tab.until(lambda f: f["type"] == "message") for tab in (one, two, other)]
        post = (await author.post("/posts", json={"title": "Engines", "body": "…"})).json()
        await liker.post(f"/posts/{post['id']}/like")
        notified = [await tab.until(lambda f: f["type"] == "notification") for tab in (one, two)]
        async with (
            connect_bus(standing.nats.url, name="test") as bus,
            start_publisher(bus) as publisher,
        ):
            revoked = UserRevoked(user_id=UserId(ada)).model_dump_json().encode()
            await publisher.publish("ctl.pub.auth.user_revoked", revoked, message_id="revoked")
        closes = [await tab.until_closed() for tab in (one, two)]
        await other.until(lambda f: f["type"] == "user_left" and f["user_id"] == ada)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await author.get("/posts")).status_code != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # it hears of that by a way of its own

    assert one.frames[0]["user_id"] == ada
    assert {user["user_id"] for user in other.frames[0]["users"]} == {ada, grace}
    assert (joined["user_id"], joined["name"]) == (grace, "Grace")
    assert [frame["user_id"] for frame in said] == [grace] * 3
    assert post["author_id"] == ada
    assert [(f["event"], f["liked_by"]) for f in notified] == [("post_liked", "Grace")] * 2
    assert other.of_type("notification") == []
    assert closes == [(1008, "Session ended")] * 2


async def test_one_user_on_two_gateways_is_one_joined_one_left_and_equal_counts(
    standing: System,
) -> None:
    room = a_room()
    async with AsyncExitStack() as stack:
        watchers = [
            await stack.enter_async_context(open_tab(url, a_token(user, f"Watcher {user}"), room))
            for user, url in enumerate(standing.ws_urls, start=1)
        ]
        await watchers[0].until(lambda f: f["type"] == "user_joined")
        async with AsyncExitStack() as tabs:
            for url in [*standing.ws_urls, *standing.ws_urls]:
                tab = await tabs.enter_async_context(open_tab(url, a_token(7, "Ann"), room))
                assert tab.frames[0]["count"] == 3
            for watcher in watchers:
                await watcher.until(lambda f: f["type"] == "user_joined" and f["user_id"] == 7)
        for watcher in watchers:
            await watcher.until(lambda f: f["type"] == "user_left" and f["user_id"] == 7)

    for watcher in watchers:
        about_ann = [f for f in watcher.frames if f.get("user_id") == 7]
        assert about_ann == [
            {"type": "user_joined", "user_id": 7, "name": "Ann", "count": 3},
            {"type": "user_left", "user_id": 7, "name": "Ann", "count": 2},
        ]


async def test_the_same_id_in_two_rooms_is_two_messages(standing: System) -> None:
    token = a_token(1, "Ada")
    async with (
        open_tab(standing.ws_urls[0], token, a_room()) as one,
        open_tab(standing.ws_urls[1], token, a_room()) as two,
    ):
        first, second = await one.say("m1", "hello"), await two.say("m1", "hello")
        again = await two.say("m2", "bye")
        for tab in (one, two):
            await tab.until(lambda f: f["type"] == "message" and f["body"] == "hello")
        await two.until(lambda f: f["type"] == "message" and f["body"] == "bye")

    assert first["offset"] < second["offset"] < again["offset"]
    assert (one.bodies(), two.bodies()) == (["hello"], ["hello", "bye"])


async def test_what_a_service_publishes_over_http_reaches_the_room_on_both_gateways(
    standing: System,
) -> None:
    room = a_room()
    async with (
        open_tab(standing.ws_urls[0], a_token(1), room) as one,
        open_tab(standing.ws_urls[1], a_token(2), room) as two,
        standing.api_client() as api,
    ):
        body = {"channel": f"chat:{room}", "data": {"text": "hi"}, "idempotency_key": "k"}
        answers = [(await api.post("/api/publish", json=body)).json() for _ in range(2)]
        frames = [await tab.until(lambda f: f["type"] == "publication") for tab in (one, two)]
        assert one.frames[0]["users"][0]["name"] == "User 1"

    assert answers[0] == answers[1]
    offset = answers[0]["result"]["offset"]
    assert (
        frames
        == [{"type": "publication", "data": {"text": "hi"}, "offset": offset, "time": ANY}] * 2
    )
    assert answers[0]["result"]["epoch"] == one.epoch == two.epoch


async def test_250_users_cross_the_crowd_line_both_ways(standing: System) -> None:
    room = a_room()
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(
            open_tab(standing.ws_urls[0], a_token(1, "Ada"), room)
        )
        async with AsyncExitStack() as crowd:
            tabs: list[Tab] = []
            for first in range(100, 350, 25):
                opening = [
                    open_tab(standing.ws_urls[user % 2], a_token(user), room)
                    for user in range(first, first + 25)
                ]
                tabs += [await crowd.enter_async_context(tab) for tab in opening]
            await watcher.until(lambda f: f["type"] == "user_count" and f["count"] == 251)
            late = await crowd.enter_async_context(
                open_tab(standing.ws_urls[1], a_token(999), room)
            )
            assert late.frames[0]["count"] == 252
            assert len(late.frames[0]["users"]) == 200
            await watcher.until(lambda f: f["type"] == "user_count" and f["count"] == 252)
        await watcher.until(
            lambda f: f["type"] in ("users", "user_left") and f["count"] == 1, seconds=40
        )

    joined = watcher.of_type("user_joined")
    assert len(joined) <= 200
    assert len({frame["user_id"] for frame in joined}) == len(joined)
    counts = [frame["count"] for frame in watcher.of_type("user_count")]
    assert len(counts) < 100, "announcing each would cost the square"
    known = {user["user_id"] for user in watcher.of_type("users")[-1]["users"]}
    after = watcher.frames[watcher.frames.index(watcher.of_type("users")[-1]) + 1 :]
    known -= {frame["user_id"] for frame in after if frame["type"] == "user_left"}
    assert known == {1}
