"""Who is in the room, as each of its tabs is told."""

import asyncio
from contextlib import AsyncExitStack

from gateway.channels.options import Namespace, Who
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of

ANN = {"user_id": 1, "name": "Ann"}
BEN = {"user_id": 2, "name": "Ben"}


async def test_joined_and_left_come_once_per_user_over_tabs_and_gateways(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        async with gateway.tab(2, "Ben", room) as ben:
            assert await ann.until("user_joined") == {"type": "user_joined", **BEN, "count": 2}
            assert (ben.welcome["count"], ben.welcome["users"]) == (2, [ANN, BEN])
            async with other.tab(2, "Ben", room) as second:
                assert second.welcome["count"] == 2
                async with other.tab(3, "Cem", room):
                    await ann.until("user_joined", user_id=3)
                await ann.until("user_left", user_id=3)
                assert await second.so_far() == [
                    {"type": "user_joined", "user_id": 3, "name": "Cem", "count": 3},
                    {"type": "user_left", "user_id": 3, "name": "Cem", "count": 2},
                ]
            assert not [m for m in await ben.so_far() if m.get("user_id") == 2]
        assert await ann.until("user_left") == {"type": "user_left", **BEN, "count": 1}


async def test_whoever_comes_at_once_all_end_up_with_the_same_picture(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    room, everybody = a_room(), range(1, 31)
    start, done = asyncio.Event(), asyncio.Event()
    pictures: dict[int, tuple[set[int], int]] = {}

    async def come(user_id: int) -> None:
        await start.wait()
        async with (gateway, other)[user_id % 2].tab(user_id, "X", room) as tab:
            known = {user["user_id"] for user in tab.welcome["users"]}
            count = tab.welcome["count"]
            while len(known) < len(everybody):
                joined = await tab.until("user_joined")
                known.add(joined["user_id"])
                count = joined["count"]
            count = max([count, *(m["count"] for m in await tab.so_far())])
            pictures[user_id] = (known, count)
            if len(pictures) == len(everybody):
                done.set()
            await done.wait()

    async with asyncio.TaskGroup() as group:
        for user_id in everybody:
            group.create_task(come(user_id))
        start.set()

    assert set(map(str, pictures.values())) == {str((set(everybody), len(everybody)))}


async def test_a_reload_within_the_grace_is_no_leaving(nats_url: str) -> None:
    room = a_room()
    async with (
        a_gateway(nats_url, settings={"presence_grace_seconds": 30}) as gateway,
        gateway.tab(1, "Ann", room) as ann,
    ):
        async with gateway.tab(2, "Ben", room):
            await ann.until("user_joined", user_id=2)
        async with gateway.tab(2, "Ben", room) as ben:
            await ben.send(type="message", body="back")
            assert await ann.all_until("message", body="back") == []


async def test_a_users_other_rooms_are_other_rooms(gateway: RunningGateway) -> None:
    here, there = a_room(), a_room()
    async with gateway.tab(1, "Ann", here) as ann, gateway.tab(2, "Ben", there) as ben:
        await ben.send(type="message", body="there", id="m")
        await ben.until("ack")
        assert await ann.so_far() == []
        assert ben.welcome["count"] == 1


async def test_a_crowd_is_counted_and_named_anew_when_it_shrinks(nats_url: str) -> None:
    room = a_room()
    limits = {"crowd_size": 4, "crowd_resume": 3, "crowd_seconds": 0.1}
    async with a_gateway(nats_url, settings=limits) as gateway, gateway.tab(1, "A", room) as ann:
        async with AsyncExitStack() as crowd:
            tabs = [
                await crowd.enter_async_context(gateway.tab(user_id, "B", room))
                for user_id in range(2, 8)
            ]
            welcome = tabs[-1].welcome
            assert (welcome["count"], len(welcome["users"])) == (7, 4)
            seen = await ann.all_until("user_count", count=7)
            joined = [message for message in seen if message["type"] == "user_joined"]
            assert [message["user_id"] for message in joined] == [2, 3, 4]
        users = await ann.until("users")
        assert users["count"] == len(users["users"]) < 3
        async with gateway.tab(9, "C", room):
            await ann.until("user_joined", user_id=9)


async def test_a_room_that_lists_its_users_is_for_them_and_for_nobody_else(nats_url: str) -> None:
    dialogs = Namespace(
        publish=Who.USERS, presence=True, join_leave=True, allow_user_limited_channels=True
    )
    room = f"{a_room()}#7,42"
    async with (
        a_gateway(nats_url, settings={"namespaces": {"chat": dialogs}}) as gateway,
        gateway.tab(7, "Ann", room) as ann,
        gateway.tab(42, "Ben", room) as ben,
    ):
        await ben.say("hello")
        assert (await ann.until("message"))["body"] == "hello"
        async with gateway.socket(token=token_of(4, "Cem"), room=room) as cem:
            assert await cem.closed() == (1008, "Invalid room")
        async with gateway.tab(4, "Cem", a_room()) as cem:
            assert cem.welcome["count"] == 1


async def test_who_may_not_see_who_is_there_hears_of_nobody(nats_url: str) -> None:
    hidden = Namespace(
        publish=Who.USERS, presence=True, join_leave=True, allow_presence_for_subscriber=False
    )
    room = a_room()
    async with (
        a_gateway(nats_url, settings={"namespaces": {"chat": hidden}}) as gateway,
        gateway.tab(1, "Ann", room) as ann,
    ):
        async with gateway.tab(2, "Ben", room) as ben:
            assert (ben.welcome["count"], ben.welcome["users"]) == (1, [BEN])
            await ben.say("hello")
        heard = await ann.all_until("message")
        assert [*heard, *await ann.so_far()] == []


async def test_who_may_not_read_history_is_sent_none_of_it(nats_url: str) -> None:
    live = Namespace(publish=Who.USERS, allow_history_for_subscriber=False)
    room = a_room()
    async with a_gateway(nats_url, settings={"namespaces": {"chat": live}}) as gateway:
        async with gateway.tab(1, "Ann", room) as ann:
            since = ann.welcome["offset"]
            await ann.say("before")
        async with gateway.tab(2, "Ben", room, history="10") as ben:
            assert await ben.so_far() == []
        async with gateway.tab(1, "Ann", room, since=since) as ann:
            assert await ann.so_far() == [{"type": "reset", "reason": "too_old"}]
