"""With its database away the service says so, and goes on once it is back."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import httpx2
import pytest

from hubbub_client.sql.database import DatabaseLimits, Sessions, connect_database
from tests.fixtures.databases import PostgresServer
from tests.posts_service.callers import a_post

Client = httpx2.AsyncClient


@pytest.fixture
async def sessions(migrated: Callable[[str], str]) -> AsyncGenerator[Sessions]:
    """An empty database of the service, whose callers don't wait for long."""
    impatient = DatabaseLimits(lock_seconds=0.2, connect_seconds=20, pool_wait_seconds=0.2)
    async with connect_database(migrated("posts_service"), limits=impatient) as opened:
        yield opened


async def expect_away(client: Client, post_id: int) -> None:
    for method, path, body in [
        ("POST", "/posts", {"title": "Hello", "body": "World"}),
        ("POST", f"/posts/{post_id}/like", None),
        ("POST", f"/posts/{post_id}/comments", {"body": "Nice"}),
    ]:
        answer = await client.request(method, path, json=body)
        assert answer.status_code == 503, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "unavailable"


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_without_postgresql_posts_answer_503_and_come_back(
    postgres: PostgresServer, ada: Client
) -> None:
    post_id = await a_post(ada)

    postgres.kill()
    try:
        await expect_away(ada, post_id)
        assert (await ada.get("/posts")).status_code == 503
    finally:
        postgres.start()

    state = await ada.post(f"/posts/{post_id}/like")
    assert state.json() == {"liked": True, "like_count": 1}


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_while_another_writer_holds_sqlite_writes_answer_503_and_reads_go_on(
    tmp_path: Path, ada: Client
) -> None:
    post_id = await a_post(ada)

    holder = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        await expect_away(ada, post_id)
        assert (await ada.get(f"/posts/{post_id}")).json()["like_count"] == 0
    finally:
        holder.close()

    state = await ada.post(f"/posts/{post_id}/like")
    assert state.json() == {"liked": True, "like_count": 1}
