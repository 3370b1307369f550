import asyncio
from datetime import datetime

import httpx2

from hubbub_client.sql.database import Sessions
from tests.posts_service.callers import a_post, events

Client = httpx2.AsyncClient


async def test_a_comment_is_answered_whole_and_listed_as_answered(
    ada: Client, grace: Client
) -> None:
    post_id = await a_post(ada)

    answer = await grace.post(f"/posts/{post_id}/comments", json={"body": " Nice! "})

    assert answer.status_code == 201
    comment = answer.json()
    listed = await ada.get(f"/posts/{post_id}/comments")
    assert listed.json() == {"items": [comment], "next_cursor": None}
    assert datetime.fromisoformat(comment.pop("created_at")).tzinfo is not None
    assert comment.pop("id") >= 1
    assert comment == {
        "post_id": post_id,
        "body": "Nice!",
        "author_id": 2,
        "author_name": "Grace",
    }


async def test_a_comment_is_told_to_the_author_and_on_the_posts_channels(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada, title="Hello")

    comment = (await grace.post(f"/posts/{post_id}/comments", json={"body": "Nice"})).json()

    told = (await events(sessions))[-1]
    assert told.type == "post_commented"
    assert told.data == {
        "post_id": post_id,
        "post_title": "Hello",
        "comment_id": comment["id"],
        "commented_by": "Grace",
        "comment_count": 1,
    }
    assert told.recipients == ("1",)
    assert told.channels == (f"post:{post_id}", "chat:feed")


async def test_nobody_is_notified_of_their_own_comment(ada: Client, sessions: Sessions) -> None:
    post_id = await a_post(ada)

    await ada.post(f"/posts/{post_id}/comments", json={"body": "Me again"})

    assert (await events(sessions))[-1].recipients == ()


async def test_concurrent_comments_are_counted_in_order(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)

    async def comment(number: int) -> None:
        await grace.post(f"/posts/{post_id}/comments", json={"body": str(number)})

    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(comment(number))

    told = (await events(sessions))[1:]
    assert [event.data["comment_count"] for event in told] == list(range(1, 13))
    assert (await ada.get(f"/posts/{post_id}")).json()["comment_count"] == 12
    ids = [event.data["comment_id"] for event in told]
    assert ids == sorted(ids), "a page of comments could miss one that commits late"


async def test_a_comment_that_does_not_fit_is_refused(ada: Client) -> None:
    post_id = await a_post(ada)

    for body in ("", "  ", "x" * 2_001, "nul \0", None, 7, ["x"]):
        answer = await ada.post(f"/posts/{post_id}/comments", json={"body": body})

        assert answer.status_code == 422, body
    assert (await ada.get(f"/posts/{post_id}")).json()["comment_count"] == 0
