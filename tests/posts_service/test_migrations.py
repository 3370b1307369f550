from sqlalchemy import text

from posts_service.tables import Base
from shared.sql.database import connect_database, transaction
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
