"""Whether the database of a service is migrated to what the service's code reads and writes."""

import asyncio
from importlib import import_module
from importlib.resources import files

import structlog
from sqlalchemy import Connection, inspect, text

from hubbub_client.outbox.table import OutboxTables
from hubbub_client.sql.database import (
    DatabaseUnavailable,
    DatabaseUnfit,
    Sessions,
    place_of,
    translating_errors,
    why_away,
)

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
ADVICE = "run `hubbub migrate`"

_DIGITS = 4
_TABLE = "alembic_version"
_REVISION = text(f"SELECT version_num FROM {_TABLE}")


def newest_revision(package: str) -> str:
    """The newest that the code has; revisions are numbered, and so are their files' names."""
    folder = files(package) / "migrations" / "versions"
    return max(file.name[:_DIGITS] for file in folder.iterdir() if file.name[:_DIGITS].isdigit())


def revision_in(connection: Connection, package: str) -> str:
    """Which the package's database is at; empty if it was never migrated.

    Raises:
        DatabaseUnfit: it is another's, whose revisions have numbers like ours.
    """
    tables = inspect(connection)
    found = str(connection.scalar(_REVISION) or "") if tables.has_table(_TABLE) else ""
    if found and not any(map(tables.has_table, _own_tables(package))):
        raise DatabaseUnfit("the database is another service's or application's")
    return found


def _own_tables(package: str) -> list[str]:
    """All but those that each service has."""
    known = import_module(f"{package}.tables").Base.metadata.tables
    return [name for name in known if name not in OutboxTables.metadata.tables]


async def revision_of(sessions: Sessions, package: str) -> str:
    """As `revision_in`.

    Raises:
        DatabaseUnavailable: it does not answer, or can't be used.
    """
    with translating_errors():
        async with sessions.reading() as session:
            connection = await session.connection()
            return await connection.run_sync(revision_in, package)


def trouble_with(found: str, newest: str) -> str | None:
    """A newer database is none: while services are replaced, the old ones go on with it."""
    if found >= newest:
        return None
    return f"the database is at revision {found or 'none'}, not {newest}: {ADVICE}"


class Schema:
    """What is known of it; while it is wrong, no transaction begins."""

    def __init__(
        self, sessions: Sessions, package: str, *, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._sessions = sessions
        self._place = place_of(sessions.engine.url)
        self._package = package
        self._newest = newest_revision(package)
        self._look_seconds = look_seconds
        self._was_right = False
        self._trouble: str | None = None

    def trouble(self) -> list[str]:
        """Why the service can't serve: at most one reason."""
        return [] if self._trouble is None else [self._trouble]

    async def run(self) -> None:
        """Look now and then until cancelled."""
        while True:
            await asyncio.sleep(self._look_seconds)
            await self.look()

    async def look(self) -> None:
        """Look once. That the database is away for a while is told by each answer, and not here."""
        unfit: str | None = None
        try:
            found = await revision_of(self._sessions, self._package)
            reason = unfit = trouble = trouble_with(found, self._newest)
        except DatabaseUnfit as error:
            unfit = trouble = str(error)
            reason = why_away(error)
        except DatabaseUnavailable as error:
            if self._was_right:
                return
            trouble, reason = str(error), why_away(error)
        if trouble is not None and trouble != self._trouble:
            log.error("database_unfit", reason=reason, database=self._place)
        self._was_right = self._was_right or trouble is None
        self._trouble = trouble
        self._sessions.unfit_because = unfit
