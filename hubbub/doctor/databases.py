"""Looking at a service's database: whether it is there, migrated, and relayed."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL

from hubbub.doctor.findings import Finding, bad, doubtful, good
from hubbub.migrate import PACKAGES, until_drivers_threads_end
from hubbub_client.outbox.rows import unsent
from hubbub_client.sql.database import (
    DatabaseLimits,
    DatabaseUnavailable,
    connect_database,
    place_of,
    why_away,
)
from shared.sql.schema import newest_revision, revision_of, trouble_with

_PATIENT = DatabaseLimits(
    pool_connections=1, connect_seconds=3, statement_seconds=3, lock_seconds=1
)
LATE_SECONDS = 60.0
"""For which a row may wait to be sent, without a word of it."""


def _is_missing(url: URL) -> bool:
    """Whether it is a file that is not there: SQLite would make it."""
    return url.get_backend_name() == "sqlite" and not Path(place_of(url)).exists()


async def look_at_database(service: str, url: URL, *, migrate: str, mend: str) -> Finding:
    """
    Args:
        migrate: The command that migrates it.
        mend: What to do if it can't be used.
    """
    about, where = f"database {service}", place_of(url)
    if _is_missing(url):
        return bad(about, f"{where}: there is no such file", f"run `{migrate}`")
    newest = newest_revision(PACKAGES[service])
    try:
        async with connect_database(url, limits=_PATIENT) as sessions:
            found = await revision_of(sessions, PACKAGES[service])
            if trouble_with(found, newest) is not None:
                says = f"{where}: at revision {found or 'none'}, not {newest}"
                return bad(about, says, f"run `{migrate}`: until then {service} is not ready")
            depth, oldest = await unsent(sessions)
    except DatabaseUnavailable as error:
        await until_drivers_threads_end()
        return bad(about, f"{where}: {why_away(error)}", mend)
    if found > newest:
        says = f"{where}: at revision {found}, newer than {newest}"
        return doubtful(about, says, "run the newest version of Hubbub everywhere")
    late = (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0
    if late > LATE_SECONDS:
        says = f"{where}: {depth} rows of its outbox wait to be sent, the oldest for {late:.0f} s"
        return doubtful(about, says, f"see that {service} runs, and the bus takes what it sends")
    return good(about, f"{where}: at revision {found}, {depth} to be sent")
