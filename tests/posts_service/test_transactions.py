"""A change and its event are kept together, or neither is, and the answer says which."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from fastapi import FastAPI
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import DatabaseUnavailable, Sessions, transaction
from tests.posts_service.callers import a_client, a_post, events

Client = httpx2.AsyncClient


async def test_a_like_whose_event_can_not_be_kept_is_not_kept(
    app: FastAPI, ada: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)
    async with transaction(sessions) as session:
        await session.execute(text("ALTER TABLE outbox RENAME TO outbox_away"))

    async with a_client(app, 2, "Grace", raise_app_exceptions=False) as grace:
        answer = await grace.put(f"/posts/{post_id}/like")

    assert answer.status_code == 500
    post = (await ada.get(f"/posts/{post_id}")).json()
    assert (post["liked"], post["like_count"]) == (False, 0)


@contextmanager
def failing_commits() -> Iterator[None]:
    def fail(_session: Session) -> None:
        raise DatabaseUnavailable

    event.listen(Session, "before_commit", fail)
    try:
        yield
    finally:
        event.remove(Session, "before_commit", fail)


async def test_a_change_that_does_not_commit_is_not_answered_as_done(
    ada: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)

    with failing_commits():
        answers = [
            await ada.put(f"/posts/{post_id}/like"),
            await ada.post("/posts", json={"title": "Hello", "body": "World"}),
            await ada.post(f"/posts/{post_id}/comments", json={"body": "Nice"}),
            await ada.delete(f"/posts/{post_id}"),
        ]

    assert [answer.status_code for answer in answers] == [503] * 4
    assert [event.type for event in await events(sessions)] == ["post_created"]
    assert (await ada.get(f"/posts/{post_id}")).json()["like_count"] == 0


async def test_what_is_told_of_one_post_leaves_in_order(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    one, other = await a_post(ada), await a_post(ada)
    for post_id in (one, other):
        await grace.post(f"/posts/{post_id}/like")
        await grace.post(f"/posts/{post_id}/like")
        await grace.post(f"/posts/{post_id}/comments", json={"body": "Nice"})
        await ada.patch(f"/posts/{post_id}", json={"title": "New"})
        await ada.delete(f"/posts/{post_id}")

    async with transaction(sessions, read_only=True) as session:
        rows = list(await session.scalars(select(OutboxRow).order_by(OutboxRow.position)))

    for post_id in (one, other):
        of_post = [row for row in rows if row.aggregate == f"post:{post_id}"]
        assert [row.subject for row in of_post] == [
            "events.posts.post_created",
            "events.posts.post_liked",
            "events.posts.post_unliked",
            "events.posts.post_commented",
            "events.posts.post_edited",
            "events.posts.post_deleted",
        ]
    assert all(Envelope.model_validate_json(row.payload).id == row.id for row in rows)
