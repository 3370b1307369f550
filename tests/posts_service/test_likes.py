import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from hubbub_client.contracts.ids import UserId
from hubbub_client.sql.database import Sessions, transaction
from posts_service.tables import LikeNoticeRow, LikeRow
from tests.posts_service.callers import a_client, a_post, events

Client = httpx2.AsyncClient


async def all_at_once(requests: list[Awaitable[httpx2.Response]]) -> list[httpx2.Response]:
    async def answer(request: Awaitable[httpx2.Response]) -> httpx2.Response:
        return await request

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(request)) for request in requests]
    return [task.result() for task in tasks]


async def test_a_like_is_toggled_and_counted_for_all(ada: Client, grace: Client) -> None:
    post_id = await a_post(ada)

    answers = [
        await grace.post(f"/posts/{post_id}/like"),
        await ada.post(f"/posts/{post_id}/like"),
        await grace.post(f"/posts/{post_id}/like"),
        await grace.post(f"/posts/{post_id}/like"),
    ]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.json() for answer in answers] == [
        {"liked": True, "like_count": 1},
        {"liked": True, "like_count": 2},
        {"liked": False, "like_count": 1},
        {"liked": True, "like_count": 2},
    ]


async def test_put_and_delete_of_a_like_may_be_repeated(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)

    answers = [
        await grace.request(method, f"/posts/{post_id}/like")
        for method in ("DELETE", "PUT", "PUT", "DELETE", "DELETE")
    ]

    assert [answer.status_code for answer in answers] == [200] * 5
    states = [answer.json() for answer in answers]
    assert [state["liked"] for state in states] == [False, True, True, False, False]
    assert [state["like_count"] for state in states] == [0, 1, 1, 0, 0]
    told = [event.type for event in await events(sessions)]
    assert told == ["post_created", "post_liked", "post_unliked"]


async def test_a_like_is_told_to_the_author_and_on_the_posts_channels(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada, title="Hello")

    await grace.post(f"/posts/{post_id}/like")
    await grace.post(f"/posts/{post_id}/like")

    _, liked, unliked = await events(sessions)
    assert (liked.type, unliked.type) == ("post_liked", "post_unliked")
    assert liked.data == {
        "post_id": post_id,
        "post_title": "Hello",
        "liked_by": "Grace",
        "like_count": 1,
    }
    assert unliked.data == {"post_id": post_id, "like_count": 0}
    assert (liked.recipients, unliked.recipients) == (("1",), ())
    assert liked.channels == unliked.channels == (f"post:{post_id}", "chat:feed")


async def test_users_of_another_issuer_like_and_are_told_by_the_ids_that_it_gave_them(
    app: FastAPI, sessions: Sessions
) -> None:
    author, liker = "6f1c8a52-0d3f-4a52-9a0c-3a1b1c5d7e90", "auth0|5f7c"
    async with a_client(app, author, "Ada") as ada, a_client(app, liker, "Grace") as grace:
        post_id = await a_post(ada)
        liked = (await grace.put(f"/posts/{post_id}/like")).json()
        comment = (await grace.post(f"/posts/{post_id}/comments", json={"body": "Hi"})).json()
        post = (await grace.get(f"/posts/{post_id}")).json()

    assert liked == {"liked": True, "like_count": 1}
    assert (post["author_id"], post["liked"], comment["author_id"]) == (author, True, liker)
    created, told, commented = await events(sessions)
    assert created.data["author_id"] == author
    assert (told.recipients, commented.recipients) == ((author,), (author,))


async def test_007_is_not_7(app: FastAPI) -> None:
    async with a_client(app, 7, "Seven") as seven, a_client(app, "007", "Bond") as bond:
        post_id = await a_post(seven)
        answer = await bond.delete(f"/posts/{post_id}")
        await bond.put(f"/posts/{post_id}/like")
        post = (await seven.get(f"/posts/{post_id}")).json()

    assert answer.status_code == 403
    assert (post["author_id"], post["liked"], post["like_count"]) == (7, False, 1)


async def test_nobody_is_notified_of_their_own_like(ada: Client, sessions: Sessions) -> None:
    post_id = await a_post(ada)

    await ada.put(f"/posts/{post_id}/like")

    liked = (await events(sessions))[-1]
    assert (liked.type, liked.recipients) == ("post_liked", ())


async def liked_recipients(sessions: Sessions) -> list[tuple[UserId, ...]]:
    return [event.recipients for event in await events(sessions) if event.type == "post_liked"]


async def test_liking_again_notifies_once_a_day(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)
    for _ in range(3):
        await grace.put(f"/posts/{post_id}/like")
        await grace.delete(f"/posts/{post_id}/like")
    assert await liked_recipients(sessions) == [("1",), (), ()]

    await move_notices(sessions, timedelta(hours=-25))
    for _ in range(2):
        await grace.put(f"/posts/{post_id}/like")
        await grace.delete(f"/posts/{post_id}/like")

    assert await liked_recipients(sessions) == [("1",), (), (), ("1",), ()]


async def test_a_like_noted_by_a_clock_that_was_days_ahead_silences_no_later_one(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)
    await grace.put(f"/posts/{post_id}/like")
    await move_notices(sessions, timedelta(days=2))

    await grace.delete(f"/posts/{post_id}/like")
    await grace.put(f"/posts/{post_id}/like")

    assert await liked_recipients(sessions) == [("1",), ("1",)]


async def move_notices(sessions: Sessions, by: timedelta) -> None:
    """Make it as if the authors had been told at another time."""
    async with transaction(sessions) as session:
        when = datetime.now(UTC) + by
        await session.execute(update(LikeNoticeRow).values(notified_at=when))


async def test_the_day_is_counted_per_liker_and_post(
    app: FastAPI, ada: Client, grace: Client, sessions: Sessions
) -> None:
    one, other = await a_post(ada), await a_post(ada)

    await grace.put(f"/posts/{one}/like")
    await grace.put(f"/posts/{other}/like")
    async with a_client(app, 3, "Barbara") as barbara:
        await barbara.put(f"/posts/{one}/like")

    assert await liked_recipients(sessions) == [("1",), ("1",), ("1",)]


async def test_concurrent_likes_are_told_in_the_order_of_their_counts(
    app: FastAPI, ada: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)
    async with AsyncExitStack() as stack:
        likers = [
            await stack.enter_async_context(a_client(app, 100 + number, f"Liker {number}"))
            for number in range(20)
        ]
        answers = await all_at_once([liker.put(f"/posts/{post_id}/like") for liker in likers])

    assert [answer.status_code for answer in answers] == [200] * 20
    assert sorted(answer.json()["like_count"] for answer in answers) == list(range(1, 21))
    liked = [event for event in await events(sessions) if event.type == "post_liked"]
    assert [event.data["like_count"] for event in liked] == list(range(1, 21))


async def test_concurrent_toggles_of_one_user_alternate(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)

    answers = await all_at_once([grace.post(f"/posts/{post_id}/like") for _ in range(15)])

    assert [answer.status_code for answer in answers] == [200] * 15
    assert sorted(answer.json()["liked"] for answer in answers) == [False] * 7 + [True] * 8
    post = (await grace.get(f"/posts/{post_id}")).json()
    assert (post["liked"], post["like_count"]) == (True, 1)
    counts = [event.data["like_count"] for event in (await events(sessions))[1:]]
    assert counts == [1, 0] * 7 + [1]


async def test_one_user_liking_at_once_from_many_tabs_is_counted_and_told_once(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)

    answers = await all_at_once([grace.put(f"/posts/{post_id}/like") for _ in range(10)])

    assert [answer.status_code for answer in answers] == [200] * 10
    assert {answer.json()["like_count"] for answer in answers} == {1}
    assert await liked_recipients(sessions) == [("1",)]


async def test_a_post_deleted_under_its_likes_is_404_never_500(ada: Client, grace: Client) -> None:
    for _ in range(5):
        post_id = await a_post(ada)
        answers = await all_at_once(
            [
                grace.put(f"/posts/{post_id}/like"),
                grace.post(f"/posts/{post_id}/comments", json={"body": "Nice"}),
                ada.delete(f"/posts/{post_id}"),
                grace.post(f"/posts/{post_id}/like"),
                ada.patch(f"/posts/{post_id}", json={"title": "New"}),
            ]
        )

        assert {answer.status_code for answer in answers} <= {200, 201, 204, 404}


VERBS = st.sampled_from(["POST", "PUT", "DELETE"])


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.tuples(st.integers(1, 3), VERBS), max_size=15))
async def test_any_likes_and_unlikes_agree_with_a_set(
    app: FastAPI, ada: Client, sessions: Sessions, steps: list[tuple[int, str]]
) -> None:
    post_id = await a_post(ada)
    likers: set[int] = set()
    for user_id, verb in steps:
        async with a_client(app, user_id, f"User {user_id}") as user:
            answer = await user.request(verb, f"/posts/{post_id}/like")
        liked = user_id not in likers if verb == "POST" else verb == "PUT"
        likers = likers | {user_id} if liked else likers - {user_id}
        assert answer.json() == {"liked": liked, "like_count": len(likers)}
    async with transaction(sessions, read_only=True) as session:
        rows = select(func.count()).where(LikeRow.post_id == post_id)
        assert await session.scalar(rows) == len(likers)
