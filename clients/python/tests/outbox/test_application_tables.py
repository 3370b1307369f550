"""The outbox among an application's own tables, as Alembic sees them."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import async_sessionmaker

from clients.python.tests.outbox.builders import until
from clients.python.tests.outbox.shop import Base, InvoicePaid, a_shop, commit_with, rows_in
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.outbox import OutboxTables, append, outbox_tables, relaying

OTHER = sa.MetaData()
sa.Table("outbox_lease", OTHER, sa.Column("id", sa.Integer, primary_key=True))


def autogenerate(connection: Connection) -> str:
    """The body of a revision's ``upgrade``, as ``alembic revision --autogenerate`` writes it."""
    context = MigrationContext.configure(connection)
    operations = produce_migrations(context, Base.metadata).upgrade_ops
    assert operations is not None
    return render_python_code(operations)


def upgrade(connection: Connection, body: str) -> None:
    """Run it with the names that a revision imports."""
    with Operations.context(MigrationContext.configure(connection)) as op:
        known = {"op": op, "sa": sa}
        exec(f"if True:\n{body}", known)


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


async def test_a_revision_that_alembic_writes_makes_all_that_the_relay_needs(
    database_url: str, publisher: Publisher
) -> None:
    async with a_shop(database_url, tables=False) as engine:
        async with engine.begin() as connection:
            body = await connection.run_sync(autogenerate)
            await connection.run_sync(upgrade, body)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []

        commit = commit_with(async_sessionmaker(engine))
        await commit(lambda session: append(session, InvoicePaid(invoice_id=1)))
        async with relaying(engine, publisher):

            async def is_sent() -> bool:
                return (await rows_in(engine))[0].sent_at is not None

            await until(is_sent)

    assert "hubbub" not in body
    assert "postgresql_where" in body


def test_they_are_added_to_any_metadata_once() -> None:
    metadata = sa.MetaData()

    outbox_tables(metadata)
    outbox_tables(metadata)

    assert metadata.tables.keys() == OutboxTables.metadata.tables.keys()


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (sa.MetaData(schema="app"), "in no schema"),
        (OTHER, "another table outbox_lease"),
    ],
)
def test_what_could_not_be_used_is_refused_at_once(metadata: sa.MetaData, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        outbox_tables(metadata)


async def test_a_session_with_several_databases_is_told_where_the_outbox_is(
    sqlite_url: str,
) -> None:
    async with a_shop(sqlite_url) as engine:
        sessions = async_sessionmaker(binds={Base: engine, OutboxTables: engine})
        await commit_with(sessions)(lambda session: append(session, InvoicePaid(invoice_id=1)))

        assert len(await rows_in(engine)) == 1
