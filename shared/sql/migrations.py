"""Alembic, run by the program itself: without an ini file, which would name the database again.

A service has ``migrations/env.py`` of two lines, ``from shared.sql import migrations`` and
``migrations.run(Base.metadata)``, and its revisions in ``migrations/versions/``. A revision
makes the outbox's tables by `create_outbox`.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from alembic import command, context, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import URL, Connection, MetaData

from hubbub_client.outbox.table import MAX_NAME_LENGTH
from hubbub_client.sql.database import (
    DatabaseLimits,
    Moment,
    open_engine,
    translating_errors,
    use_write_ahead_log,
)
from shared.sql.schema import revision_in

_LIMITS = DatabaseLimits(pool_connections=1, statement_seconds=600, lock_seconds=60)
_ALEMBIC: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
_ADVISORY_LOCK = 0x48_75_62_62  # any number, as long as all processes take the same


class DatabaseNewer(Exception):
    """A newer version has migrated the database, and this one knows nothing of what it holds."""


async def migrate(url: str | URL, package: str, *, limits: DatabaseLimits = _LIMITS) -> None:
    """Bring the database to the newest revision of the package's ``migrations``.

    All in one transaction. Processes that start together wait for each other.

    Raises:
        DatabaseUnavailable: the database does not answer, or can't be used.
        DatabaseUnfit: it is another's.
        DatabaseNewer: it is not for this version.
    """
    try:
        await _run_command(url, package, command.upgrade, "head", limits)
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        revision = error.__cause__.argument
        raise DatabaseNewer(
            f"a newer version of Hubbub has migrated it, to revision {revision}: run that version"
        ) from error


async def downgrade(
    url: str | URL, package: str, revision: str, *, limits: DatabaseLimits = _LIMITS
) -> None:
    """Take the database back to a revision; ``base`` is before the first."""
    await _run_command(url, package, command.downgrade, revision, limits)


async def differences(url: str | URL, metadata: MetaData) -> list[Any]:
    """How the migrated database differs from the tables in the code."""

    def compare(connection: Connection) -> list[Any]:
        configured = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(configured, metadata))

    engine = open_engine(url, _LIMITS)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(compare)
    finally:
        await engine.dispose()


def run(target_metadata: MetaData) -> None:
    """Run the revisions that Alembic chose: the whole of a service's ``env.py``."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=target_metadata,  # its naming convention names constraints
        render_as_batch=connection.dialect.name == "sqlite",  # which alters a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


def create_outbox() -> None:
    """For a revision: make the outbox's tables as they were at first.

    Never edit this, add another function: revisions that have run must not change.
    """
    position = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    name = sa.String(MAX_NAME_LENGTH)
    op.create_table(
        "outbox",
        sa.Column("position", position, primary_key=True, autoincrement=True),
        sa.Column("id", name, nullable=False, unique=True),
        sa.Column("subject", name, nullable=False),
        sa.Column("aggregate", name, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("sent_at", Moment()),
        sa.Column("poisoned_at", Moment()),
        sa.Column("error", sa.Text()),
    )
    unsent = sa.text("sent_at IS NULL AND poisoned_at IS NULL")
    sent = sa.text("sent_at IS NOT NULL")
    op.create_index(
        "ix_outbox_unsent", "outbox", ["position"], postgresql_where=unsent, sqlite_where=unsent
    )
    op.create_index(
        "ix_outbox_sent", "outbox", ["sent_at"], postgresql_where=sent, sqlite_where=sent
    )
    lease = op.create_table(
        "outbox_lease",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
    )
    long_ago = datetime(1970, 1, 1, tzinfo=UTC)
    op.bulk_insert(lease, [{"name": "relay", "owner": "", "expires_at": long_ago}])


def drop_outbox() -> None:
    """For a revision's downgrade: the reverse of `create_outbox`."""
    op.drop_table("outbox_lease")
    op.drop_table("outbox")


def add_outbox_streams() -> None:
    """For a revision after `create_outbox`: the stream, and each row's sequence in it."""
    op.add_column("outbox", sa.Column("sequence", sa.BigInteger()))
    op.create_table(
        "outbox_streams",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("floor", sa.BigInteger(), nullable=False),
    )


def drop_outbox_streams() -> None:
    """For a revision's downgrade: the reverse of `add_outbox_streams`."""
    op.drop_table("outbox_streams")
    op.drop_column("outbox", "sequence")


def add_outbox_lives() -> None:
    """For a revision after `add_outbox_streams`: an index over sequences, for each life."""
    for table in ("outbox", "outbox_streams"):
        op.add_column(table, sa.Column("life", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("outbox_streams", sa.Column("lost_above", sa.BigInteger()))
    is_stored = sa.text("sequence IS NOT NULL")
    op.create_index(
        "ix_outbox_places",
        "outbox",
        ["life", "sequence"],
        postgresql_where=is_stored,
        sqlite_where=is_stored,
    )


def drop_outbox_lives() -> None:
    """For a revision's downgrade: the reverse of `add_outbox_lives`."""
    op.drop_index("ix_outbox_places", "outbox")
    op.drop_column("outbox_streams", "lost_above")
    for table in ("outbox_streams", "outbox"):
        op.drop_column(table, "life")


async def _run_command(
    url: str | URL,
    package: str,
    step: Callable[[Config, str], None],
    revision: str,
    limits: DatabaseLimits,
) -> None:
    def run_on(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        revision_in(connection, package)  # of another's nothing is to be altered
        with as_file(files(package) / "migrations") as folder:
            config = Config()
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            step(config, revision)

    # Alembic keeps its state in globals: two runs at a time would mix up their databases.
    alembic = _ALEMBIC.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    engine = open_engine(url, limits)
    try:
        with translating_errors():
            if engine.dialect.name == "sqlite":
                await use_write_ahead_log(engine, limits.lock_seconds)
            async with alembic, engine.begin() as connection:
                await connection.run_sync(run_on)
    finally:
        await engine.dispose()
