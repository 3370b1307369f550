"""A database: connections, transactions, and one error when it is unavailable.

SQLite for a single process, PostgreSQL for many; both behave alike.
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    DateTime,
    Dialect,
    PoolProxiedConnection,
    TypeDecorator,
    event,
    exc,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

from hubbub_client.contracts.errors import Unavailable
from hubbub_client.sql.postgres import BadDatabaseUrl, PostgresConnector, parse_url, read_options

Insert = postgresql.Insert | sqlite.Insert

_READING = {"read_only": True, "postgresql_readonly": True}
_RETRY_SECONDS = 0.01
_MAX_PORT = 65_535
_DATABASES = {"sqlite": "sqlite", "postgres": "postgresql", "postgresql": "postgresql"}
"""What they are called in a URL."""
_DRIVERS = {"sqlite": ("aiosqlite",), "postgresql": ("asyncpg", "psycopg")}
"""Those that can be awaited; what is installed and comes first is taken."""
_SQLITE_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
}
_SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_POSTGRES_REFUSES = ("28", "42501")  # our name or password, what we may do
_POSTGRES_UNAVAILABLE = ("08", "53", "57", "58", "55P03", "25P03", "40001", "40P01", "3D000")
"""Classes and codes of SQLSTATE: connection, resources, shutdown and cancel, system, locks."""


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or not in time; the transaction was rolled back."""

    def __init__(self, why: str = "the database does not answer now") -> None:
        super().__init__(why)


class DatabaseUnfit(DatabaseUnavailable):
    """It answers, and can't be used before an operator has done something; so we may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseLimits:
    """How much of the database one process may hold, and for how long."""

    pool_connections: int = 10
    """On SQLite again as many that only read."""
    pool_wait_seconds: float = 5
    """For a free connection, when all are in use."""
    connect_seconds: float = 5
    statement_seconds: float = 10
    lock_seconds: float = 5
    """For a lock that another transaction holds; on SQLite, for its one writer."""
    idle_transaction_seconds: float = 30
    """PostgreSQL ends a transaction that sat idle for so long, and frees its locks."""


class Sessions(async_sessionmaker[AsyncSession]):
    """Makes the sessions of one database."""

    def __init__(self, engine: AsyncEngine, *, readers: AsyncEngine) -> None:
        """``readers``: the engine of sessions that only read."""
        super().__init__(engine, expire_on_commit=False)
        self.engine = engine
        self._readers = readers
        self.unfit_because: str | None = None
        """Why nothing is to be read or written now, such as tables that are not as they must be."""

    def reading(self) -> AsyncSession:
        """A session that only reads."""
        return self(bind=self._readers, execution_options=_READING)


class Moment(TypeDecorator[datetime]):
    """A point in time, always aware and in UTC; SQLite by itself would lose the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs its time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def database_url(written: str | URL) -> URL:
    """Read a URL in any of the usual forms, and set a driver that can be awaited.

    One that is named is kept if it can; so the URL may be that of an application that is not.

    Raises:
        BadDatabaseUrl: it can't be used.
    """
    try:
        url = parse_url(written) if isinstance(written, str) else written
    except (exc.ArgumentError, ValueError):  # whose text repeats the URL
        raise BadDatabaseUrl("not the URL of a database: is a character in it unescaped?") from None
    backend, _, driver = url.drivername.partition("+")
    database = _DATABASES.get(backend)
    if database is None:
        raise BadDatabaseUrl("not the URL of a SQLite or PostgreSQL database")
    if driver not in _DRIVERS[database] or find_spec(driver) is None:
        driver = _installed_driver(database)
    if database == "sqlite" and any((url.host, url.port, url.username, url.password)):
        raise BadDatabaseUrl(
            "a SQLite file comes after three slashes, sqlite:///file, and an absolute path after"
            " four"
        )
    if database == "sqlite" and url.query:
        raise BadDatabaseUrl(f"a SQLite file takes no options: leave out {', '.join(url.query)}")
    if url.port is not None and not 0 < url.port <= _MAX_PORT:
        raise BadDatabaseUrl(f"no port is {url.port}")
    url = url.set(drivername=f"{database}+{driver}")
    if driver == "asyncpg":
        read_options(url)
    return url


def _installed_driver(database: str) -> str:
    drivers = _DRIVERS[database]
    for driver in drivers:
        if find_spec(driver) is not None:
            return driver
    raise BadDatabaseUrl(f"no driver for {database} is installed: pip install {drivers[0]}")


def place_of(url: URL) -> str:
    """Where the database is, for an operator: without user, password and options."""
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    hosts = url.query.get("host") or url.host or ""
    name = hosts if isinstance(hosts, str) else ",".join(hosts)
    port = f":{url.port}" if url.port else ""
    return f"{name}{port}/{url.database or ''}"


def why_away(error: DatabaseUnavailable) -> str:
    """What callers are told, and for an operator what the server or the system said."""
    cause = error.__cause__
    return str(error) if cause is None else f"{error}: {reason_of(cause)}"


def reason_of(error: BaseException) -> str:
    """The message of the server or the system, in one line; the driver's is within SQLAlchemy's."""
    said = getattr(error, "orig", None) or error
    first, *_ = str(said).splitlines() or [""]
    return re.sub(r"^<class '[^']*'>: ", "", first) or type(said).__name__


def open_engine(url: str | URL, limits: DatabaseLimits) -> AsyncEngine:
    """Make the engine; nothing connects before it is used. The caller disposes of it."""
    where = database_url(url)
    pool: dict[str, Any] = {
        "pool_size": limits.pool_connections,
        "max_overflow": 0,
        "pool_timeout": limits.pool_wait_seconds,
    }
    if where.get_backend_name() == "sqlite":
        engine = create_async_engine(
            where,
            # We send BEGIN ourselves: the driver would send it before the first write only.
            connect_args={"isolation_level": None, "timeout": limits.lock_seconds},
            **({} if is_in_memory(where) else pool),
        )
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    connector = PostgresConnector(
        {
            "statement_timeout": _milliseconds(limits.statement_seconds),
            "lock_timeout": _milliseconds(limits.lock_seconds),
            "idle_in_transaction_session_timeout": _milliseconds(limits.idle_transaction_seconds),
        }
    )
    if where.get_driver_name() == "asyncpg":
        options = read_options(where)
        where = options.url
        arguments = {
            "timeout": limits.connect_seconds,
            # The server cancels first; the driver's limit is for a server that does not answer.
            "command_timeout": limits.statement_seconds + limits.connect_seconds,
            **options.arguments,
        }
    else:
        connector.pooled = True  # it may be, and psycopg asks nobody
        arguments = {
            "connect_timeout": max(1, round(limits.connect_seconds)),
            "prepare_threshold": None,
        }
    # A restarted server costs nobody an error: hence the ping.
    engine = create_async_engine(where, pool_pre_ping=True, connect_args=arguments, **pool)
    if where.get_driver_name() == "asyncpg":
        event.listen(engine.sync_engine, "do_connect", connector.connect)
    event.listen(engine.sync_engine, "begin", connector.begin)
    return engine


def is_in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _prepare_sqlite(connection: PoolProxiedConnection, _record: object) -> None:
    cursor = connection.cursor()
    # Nothing that takes a lock: a connection that fails here would keep it.
    cursor.execute("PRAGMA synchronous = FULL")  # an answered commit survives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once, unless the transaction is read-only.

    A transaction that reads first and writes later can't wait for the lock: what it read may be
    stale by then, so SQLite answers "database is locked" at once.
    """
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@asynccontextmanager
async def connect_database(
    url: str | URL, *, limits: DatabaseLimits | None = None
) -> AsyncGenerator[Sessions]:
    """Sessions on the database, which may be unavailable now and come back later.

    Open transactions by `transaction`, which raises `DatabaseUnavailable`.
    """
    async with AsyncExitStack() as engines:

        def opened() -> AsyncEngine:
            engine = open_engine(url, limits or DatabaseLimits())
            engines.push_async_callback(engine.dispose)
            return engine

        engine = opened()
        # On SQLite writers wait for each other, and hold connections that readers need.
        apart = engine.dialect.name == "sqlite" and not is_in_memory(engine.url)
        yield Sessions(engine, readers=opened() if apart else engine)


@asynccontextmanager
async def transaction(
    sessions: Sessions, *, read_only: bool = False
) -> AsyncGenerator[AsyncSession]:
    """One transaction: committed at the end, rolled back when the body raises.

    A read-only one neither waits for writers nor blocks them; PostgreSQL refuses its writes.

    Raises:
        DatabaseUnavailable: the database does not answer; the transaction may be tried again.
        DatabaseUnfit: somebody has to do something first.
    """
    if sessions.unfit_because is not None:
        raise DatabaseUnfit(sessions.unfit_because)
    with translating_errors():
        if read_only:
            async with sessions.reading() as session:
                yield session
        else:
            async with sessions.begin() as session:
                yield session


def transaction_dependency(
    sessions: Sessions, *, read_only: bool = False
) -> Callable[[], AsyncGenerator[AsyncSession]]:
    """Make the FastAPI dependency of one request's transaction.

    Use it as ``Depends(…, scope="function")``: by default FastAPI ends a dependency, and so would
    commit, after the answer has been sent.
    """

    async def of_request() -> AsyncGenerator[AsyncSession]:
        async with transaction(sessions, read_only=read_only) as session:
            yield session

    return of_request


def insert_into(session: AsyncSession, table: type[DeclarativeBase]) -> Insert:
    """An INSERT that may say what to do ``on_conflict``."""
    insert: Callable[[type[DeclarativeBase]], Insert]
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    return insert(table)


async def database_now(session: AsyncSession) -> datetime:
    """The time by the one clock that all clients of the database share."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)  # SQLite's clients are on one machine
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def use_write_ahead_log(engine: AsyncEngine, seconds: float) -> None:
    """Let SQLite's readers and its writer not wait for each other; the file remembers it.

    Raises:
        DatabaseUnavailable: others used the file all the time for ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        async with engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            try:
                await driver.execute_fetchall("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite itself never waits for this lock.
                if time.monotonic() > deadline or not _is_sqlite_unavailable(error):
                    raise DatabaseUnavailable from error
        await asyncio.sleep(_RETRY_SECONDS)


@contextmanager
def translating_errors() -> Generator[None]:
    """Raise `DatabaseUnavailable` for what is not the statement's fault."""
    try:
        yield
    except (OSError, exc.TimeoutError) as error:  # asyncpg lets OSError and TimeoutError through
        raise DatabaseUnavailable from error
    except exc.DBAPIError as error:
        if _is_unavailable(error):
            raise DatabaseUnavailable from error
        if (why := _why_unfit(error)) is not None:
            raise DatabaseUnfit(why) from error
        raise


def _is_unavailable(error: exc.DBAPIError) -> bool:
    original = error.orig
    if error.connection_invalidated:
        return True
    if isinstance(original, sqlite3.Error):
        return _is_sqlite_unavailable(original)
    state = getattr(original, "sqlstate", None)
    if state is None:  # the driver itself failed: the connection was closed, or not opened
        return isinstance(error, exc.InterfaceError | exc.OperationalError)
    return bool(state.startswith(_POSTGRES_UNAVAILABLE))


def _why_unfit(error: exc.DBAPIError) -> str | None:
    if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_DAMAGED:
        return "the database's file is damaged, or not a database"
    state = getattr(error.orig, "sqlstate", None) or ""
    return "the database refuses us" if state.startswith(_POSTGRES_REFUSES) else None


def _is_sqlite_unavailable(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _SQLITE_UNAVAILABLE  # the low byte is the primary code
