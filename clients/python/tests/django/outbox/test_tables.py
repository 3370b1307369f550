"""The migration makes the library's tables."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from clients.python.tests.django.outbox.conftest import Project
from hubbub_client.outbox.table import OutboxTables
from hubbub_client.sql.database import database_url as asynchronous


def is_compared(_object: object, name: str | None, kind: str, *_: object) -> bool:
    """Not the tables of Django's migrations, nor its indexes for LIKE; and of the unique ids
    SQLAlchemy sees nothing in SQLite."""
    if kind == "table":
        return name in OutboxTables.metadata.tables
    return kind != "unique_constraint" and not str(name).endswith("_like")


def differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "include_object": is_compared}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, OutboxTables.metadata))


async def test_they_are_as_the_library_makes_them(project_on: Project, database_url: str) -> None:
    assert "Applying hubbub_outbox.0001_initial... OK" in project_on.run("migrate")
    engine = create_async_engine(asynchronous(database_url))
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


def test_the_models_are_as_they_were_when_the_migration_was_written(
    sqlite_project: Project,
) -> None:
    assert "No changes detected" in sqlite_project.run("makemigrations", "--check", "--dry-run")
