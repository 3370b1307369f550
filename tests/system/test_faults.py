"""What is left of the promises when processes die under traffic."""

import asyncio
from contextlib import AsyncExitStack
from itertools import chain
from signal import SIGTERM

from tests.system.conftest import System, a_room, a_token
from tests.system.tab import Tab, open_tab, persistent_tab

MESSAGES_EACH = 60
GONE_SECONDS = 15.0 + 10.0
"""What is promised, and what a busy machine takes more."""


async def _talk(tab: Tab, name: str, *, count: int = MESSAGES_EACH) -> list[str]:
    """Say numbered lines one after another, each until it is acked."""
    said = []
    for number in range(count):
        body = f"{name}-{number}"
        await tab.say(body, body)
        said.append(body)
    return said


async def _until_all_have(tabs: list[Tab], bodies: set[str]) -> None:
    for tab in tabs:
        await tab.until_has(bodies)


def _assert_each_once_in_order(tabs: list[Tab], said: list[list[str]]) -> None:
    for tab in tabs:
        bodies, offsets = tab.bodies(), [f["offset"] for f in tab.of_type("message")]
        assert sorted(bodies) == sorted(chain(*said)), "each once"
        assert offsets == sorted(set(offsets)), "in the stream's order"
        for mine in said:
            assert [body for body in bodies if body in set(mine)] == mine, "in each one's order"
        assert not tab.of_type("reset")


async def test_clients_of_a_killed_gateway_go_on_at_the_other_and_have_every_message_once(
    system: System,
) -> None:
    (first, second), room = system.ws_urls, a_room()
    async with AsyncExitStack() as stack:
        tabs = [
            await stack.enter_async_context(
                persistent_tab(*order, token=a_token(user, f"User {user}"), room=room)
            )
            for user, order in enumerate([(first, second), (first, second), (second, first)], 1)
        ]
        async with asyncio.TaskGroup() as group:
            talks = [group.create_task(_talk(tab, f"u{number}")) for number, tab in enumerate(tabs)]
            await tabs[2].until_has({"u0-20"})
            system.gateways[0].kill()
        said = [talk.result() for talk in talks]
        await _until_all_have(tabs, set(chain(*said)))

    assert len(tabs[0].of_type("welcome")) > 1, "it did reconnect"
    _assert_each_once_in_order(tabs, said)


async def test_clients_of_a_gateway_that_stops_go_on_at_the_other_and_have_every_message_once(
    system: System,
) -> None:
    (first, second), room = system.ws_urls, a_room()
    async with AsyncExitStack() as stack:
        tabs = [
            await stack.enter_async_context(
                persistent_tab(*order, token=a_token(user, f"User {user}"), room=room)
            )
            for user, order in enumerate([(first, second)] * 5 + [(second, first)], 1)
        ]
        async with asyncio.TaskGroup() as group:
            talks = [group.create_task(_talk(tab, f"u{number}")) for number, tab in enumerate(tabs)]
            await tabs[-1].until_has({"u0-20"})
            system.gateways[0].signal(SIGTERM)
        said = [talk.result() for talk in talks]
        await _until_all_have(tabs, set(chain(*said)))
        closes = [await tab.until_first_close() for tab in tabs[:-1]]

    assert system.gateways[0].wait() == 0
    assert closes == [(1012, "restarting")] * 5
    _assert_each_once_in_order(tabs, said)


async def test_the_users_of_a_killed_gateway_leave_once_and_in_time(system: System) -> None:
    room = a_room()
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(open_tab(system.ws_urls[1], a_token(1), room))
        for user in (2, 2, 3):
            await stack.enter_async_context(open_tab(system.ws_urls[0], a_token(user), room))
        await watcher.until(lambda f: f["type"] == "user_joined" and f["user_id"] == 3)

        system.gateways[0].kill()
        await watcher.until(
            lambda f: f["type"] == "user_left" and f["count"] == 1, seconds=GONE_SECONDS
        )

    assert sorted(frame["user_id"] for frame in watcher.of_type("user_left")) == [2, 3]


async def test_nothing_acked_is_lost_when_the_nats_server_is_killed_and_started_again(
    system: System,
) -> None:
    room = a_room()
    async with AsyncExitStack() as stack:
        tabs = [
            await stack.enter_async_context(persistent_tab(url, token=a_token(user), room=room))
            for user, url in enumerate([*system.ws_urls, *system.ws_urls], 1)
        ]
        async with asyncio.TaskGroup() as group:
            talks = [group.create_task(_talk(tab, f"u{number}")) for number, tab in enumerate(tabs)]
            for line in ("u0-10", "u0-30"):
                await tabs[1].until_has({line})
                system.nats.kill()
                system.nats.start()
        said = [talk.result() for talk in talks]
        await _until_all_have(tabs, set(chain(*said)))

    assert [len(tab.of_type("welcome")) for tab in tabs] == [1, 1, 1, 1], "sockets are kept"
    _assert_each_once_in_order(tabs, said)


async def test_likes_are_accepted_with_the_broker_away_and_all_arrive_in_order(
    system: System,
) -> None:
    likers = range(10, 40)
    async with AsyncExitStack() as stack:
        tab = await stack.enter_async_context(
            open_tab(system.ws_urls[0], a_token(1, "Ada"), a_room())
        )
        author = await stack.enter_async_context(system.posts_client(1, "Ada"))
        post = (await author.post("/posts", json={"title": "Engines", "body": "…"})).json()

        system.nats.stop()
        counts = []
        for user in likers:
            async with system.posts_client(user, f"User {user}") as liker:
                answer = await liker.put(f"/posts/{post['id']}/like")
                counts.append(answer.json()["like_count"])
        assert not tab.of_type("notification")
        system.nats.start()
        await tab.until(lambda f: f.get("liked_by") == f"User {likers[-1]}")

    assert counts == list(range(1, len(likers) + 1))
    liked_by = [frame["liked_by"] for frame in tab.of_type("notification")]
    assert liked_by == [f"User {user}" for user in likers]


async def test_a_gateway_cut_off_from_nats_keeps_its_sockets_and_is_not_ready(
    system: System,
) -> None:
    async with (
        open_tab(system.ws_urls[0], a_token(1), a_room()) as tab,
        system.api_client() as api,
    ):
        system.nats.stop()
        await tab.send(type="message", id="a", body="not now")
        error = await tab.until(lambda f: f["type"] == "error")
        ready = await api.get("/readyz")
        alive = await api.get("/livez")
        system.nats.start()
        await tab.say("b", "now")
        await tab.until(lambda f: f.get("body") == "now")

    assert (error["code"], error["id"]) == ("unavailable", "a")
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert alive.status_code == 200
    assert len(tab.of_type("welcome")) == 1
