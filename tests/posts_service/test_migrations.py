from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hubbub_client.contracts.ids import UserId
from hubbub_client.sql.database import Sessions, connect_database, transaction
from posts_service.tables import Base, PostRow
from shared.sql.migrations import differences, downgrade, migrate


async def test_the_migrated_database_is_what_the_code_knows(database_url: str) -> None:
    await migrate(database_url, "posts_service")

    assert await differences(database_url, Base.metadata) == []


async def test_migrations_go_up_down_and_up_again(database_url: str) -> None:
    await migrate(database_url, "posts_service")
    await downgrade(database_url, "posts_service", "base")
    async with connect_database(database_url) as sessions, transaction(sessions) as session:
        await session.execute(text("CREATE TABLE posts (id INTEGER)"))  # nothing is in its way
        await session.execute(text("DROP TABLE posts"))

    await migrate(database_url, "posts_service")

    assert await differences(database_url, Base.metadata) == []


async def test_migrating_twice_keeps_what_is_there(database_url: str) -> None:
    await migrate(database_url, "posts_service")
    async with connect_database(database_url) as sessions:
        async with transaction(sessions) as session:
            await session.execute(
                text(
                    "INSERT INTO posts (author_id, author_name, title, body, like_count,"
                    " comment_count, created_at)"
                    " VALUES (1, 'Ada', 'Hello', 'World', 0, 0, '2026-01-01 00:00:00')"
                )
            )
        await migrate(database_url, "posts_service")
        async with transaction(sessions, read_only=True) as session:
            assert await session.scalar(text("SELECT count(*) FROM posts")) == 1


_ROWS_OF_NUMBERS = (
    "INSERT INTO posts (author_id, author_name, title, body, like_count, comment_count,"
    " created_at) VALUES (7, 'Ada', 'Hello', 'World', 2, 1, '2026-01-01 00:00:00'),"
    " (8, 'Bob', 'Bye', 'World', 0, 0, '2026-01-01 00:00:00')",
    "INSERT INTO likes (post_id, user_id) VALUES (1, 7), (1, 9223372036854775807)",
    "INSERT INTO like_notices (post_id, user_id, notified_at) VALUES (1, 8, '2026-01-01 00:00:00')",
    "INSERT INTO comments (post_id, author_id, author_name, body, created_at)"
    " VALUES (1, 8, 'Bob', 'Nice', '2026-01-01 00:00:00')",
    "DELETE FROM posts WHERE id = 2",
)
_USERS = (
    "SELECT author_id FROM posts",
    "SELECT user_id FROM likes ORDER BY user_id",
    "SELECT user_id FROM like_notices",
    "SELECT author_id FROM comments",
)


async def _at_numbers(database_url: str) -> None:
    """A database of before user ids were texts, with rows in each table."""
    await migrate(database_url, "posts_service")
    await downgrade(database_url, "posts_service", "0002")
    async with connect_database(database_url) as sessions, transaction(sessions) as session:
        for statement in _ROWS_OF_NUMBERS:
            await session.execute(text(statement))


async def _users(sessions: Sessions) -> list[list[object]]:
    async with transaction(sessions, read_only=True) as session:
        return [list(await session.scalars(text(query))) for query in _USERS]


async def test_ids_that_were_numbers_become_texts_and_every_row_stays(database_url: str) -> None:
    await _at_numbers(database_url)

    await migrate(database_url, "posts_service")

    async with connect_database(database_url) as sessions:
        assert await _users(sessions) == [["7"], ["7", "9223372036854775807"], ["8"], ["8"]]
        async with transaction(sessions) as session:
            post = PostRow(
                author_id=UserId("ann"), author_name="Ann", title="T", body="B",
                created_at=datetime.now(UTC),
            )  # fmt: skip
            session.add(post)
            await session.flush()
            assert post.id == 3, "a deleted post's id is never given again"
            await session.execute(text("DELETE FROM posts WHERE id = 1"))  # the rest goes along
        assert await _users(sessions) == [["ann"], [], [], []]
    assert await differences(database_url, Base.metadata) == []


async def test_the_way_back_keeps_numbers_and_refuses_what_is_none(database_url: str) -> None:
    await _at_numbers(database_url)
    await migrate(database_url, "posts_service")
    await downgrade(database_url, "posts_service", "0002")
    async with connect_database(database_url) as sessions:
        assert await _users(sessions) == [[7], [7, 9223372036854775807], [8], [8]]
    await migrate(database_url, "posts_service")
    async with connect_database(database_url) as sessions, transaction(sessions) as session:
        await session.execute(text("INSERT INTO likes (post_id, user_id) VALUES (1, '007')"))

    with pytest.raises((ValueError, DBAPIError)):
        await downgrade(database_url, "posts_service", "0002")

    async with connect_database(database_url) as sessions:
        assert (await _users(sessions))[1] == ["007", "7", "9223372036854775807"]
