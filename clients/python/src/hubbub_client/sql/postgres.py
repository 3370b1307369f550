"""PostgreSQL as hosts provide it: the options in its URL, and a pooler in front of it.

The options are libpq's. The driver knows most of them. It takes any other for a setting of the
server, which would refuse it at the first request. So the options are checked here, where a wrong
one is an error message at the start.
"""

import logging
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import URL, Connection, Dialect, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from hubbub_client.log_events import LogEvent

log = logging.getLogger(__name__)

DEFAULT_PORT = 5432
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSIONS = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")

_HOSTS = re.compile(r"(?P<before>\w+://(?:[^/?]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<rest>.*)", re.S)
_FOR_THE_DRIVER = {
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs",
    "user", "password", "passfile", "dbname", "krbsrvname", "gsslib",
    "application_name", "options",
}  # fmt: skip
_ONLY = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "client_encoding": ("auto", "utf8", "utf-8", "unicode"),
    "sslcompression": ("0",),
    "sslsni": ("1",),
}
"""Options that the driver doesn't have; with these values it need not."""
_ADVICE = {
    "channel_binding": "; sslmode=verify-full keeps others from listening in, too",
}
_WITHOUT_EFFECT = {
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
}  # fmt: skip


_POOLER_ADVICE = (
    "leave it out of the database's URL (ALTER ROLE … SET keeps what options= would set),"
    " or name it in the pooler's ignore_startup_parameters, where it has no effect"
)


class BadDatabaseUrl(ValueError):
    """The URL can't be used; the message says why, without the password."""


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """A URL's options as the driver takes them."""

    url: URL
    """Without the options, but for several hosts, which are in its query."""
    arguments: Mapping[str, Any]


def parse_url(written: str) -> URL:
    """Read a URL, which may have several hosts."""
    found = _HOSTS.fullmatch(written)
    if found is None:
        return make_url(written)
    hosts = [host if _has_port(host) else f"{host}:{DEFAULT_PORT}"
             for host in found["hosts"].split(",")]  # fmt: skip
    return make_url(found["before"] + found["rest"]).update_query_dict({"host": hosts})


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def read_options(url: URL) -> PostgresOptions:
    """Check the options of a URL, and keep those that the driver needs.

    Raises:
        BadDatabaseUrl: one is unknown, can't be followed, or names a file that can't be read.
    """
    given = {name: value if isinstance(value, str) else value[-1]
             for name, value in url.query.items() if name not in ("host", "port")}  # fmt: skip
    if "ssl" in given:  # as SQLAlchemy's users write it
        given.setdefault("sslmode", given.pop("ssl"))
    if "fallback_application_name" in given:
        given.setdefault("application_name", given.pop("fallback_application_name"))
    arguments: dict[str, Any] = {}
    if "connect_timeout" in given:
        arguments |= _timeout(given.pop("connect_timeout"))
    kept: dict[str, str] = {}
    for name, value in given.items():
        if name in _FOR_THE_DRIVER:
            kept[name] = value
        elif name in _ONLY:
            _one_of(name, value.lower(), _ONLY[name])
        elif name not in _WITHOUT_EFFECT:
            raise BadDatabaseUrl(f"the option {name} is not known here: leave it out")
    _one_of("sslmode", kept.get("sslmode", "prefer"), SSL_MODES)
    _one_of("target_session_attrs", kept.get("target_session_attrs", "any"), SESSIONS)
    if kept.get("sslrootcert") == "system":
        del kept["sslrootcert"]
        if kept.pop("sslmode", "verify-full") != "verify-full":
            raise BadDatabaseUrl("sslrootcert=system wants sslmode=verify-full")
        arguments["ssl"] = True  # the system's authorities, and the host's name
    _check_files(kept)
    if kept:
        arguments["dsn"] = f"postgresql://?{urlencode(kept)}"
    hosts = {name: value for name, value in url.query.items() if name in ("host", "port")}
    return PostgresOptions(url.set(query=hosts), arguments)


def _timeout(value: str) -> dict[str, float]:
    """Nothing where libpq would wait for ever: then our own limit holds."""
    try:
        seconds = int(value)
    except ValueError:
        raise BadDatabaseUrl("connect_timeout is not a number of seconds") from None
    return {"timeout": float(seconds)} if seconds > 0 else {}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadDatabaseUrl(f"{name} can only be {', '.join(allowed)}{_ADVICE.get(name, '')}")


def _check_files(options: Mapping[str, str]) -> None:
    """Load the certificates now: later every connection would fail as if the server were away."""
    verifies = options.get("sslmode", "").startswith("verify-")
    if verifies and not options.get("sslrootcert"):
        raise BadDatabaseUrl(
            f"sslmode={options['sslmode']} wants sslrootcert: a file of the authorities'"
            " certificates, or system"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in ("sslrootcert", "sslcrl"):
        if name in options:
            _load(name, options[name], lambda file: context.load_verify_locations(cafile=file))
    if "sslcert" in options:
        password = options.get("sslpassword", "")
        _load("sslcert", options["sslcert"], lambda file: context.load_cert_chain(
            file, options.get("sslkey"), password=lambda: password))  # fmt: skip


def _load(name: str, file: str, load: Callable[[str], object]) -> None:
    try:
        load(file)
    except OSError as error:  # SSLError is one
        raise BadDatabaseUrl(f"{name}: {file}: {error.strerror or 'unreadable'}") from None


@dataclass(slots=True)
class PostgresConnector:
    """Connects to a server, or to a pooler in front of it, with our limits in force.

    A pooler in transaction mode, such as pgbouncer's, gives each transaction another connection
    to the server. It refuses or forgets settings of the session, and prepared statements get lost.
    That is how it is detected. From then on each transaction sets the limits again, and no
    statement is prepared under a name.
    """

    settings: Mapping[str, str]
    pooled: bool = field(default=False, init=False)
    _has_logged: bool = field(default=False, init=False)

    def connect(
        self, dialect: Dialect, _: ConnectionPoolEntry, args: list[Any], arguments: dict[str, Any]
    ) -> Any:
        """For SQLAlchemy's event ``do_connect``."""
        if not self.pooled:
            direct = {**arguments, "server_settings": dict(self.settings)}
            try:
                connection: Any = dialect.connect(*args, **direct)
            except Exception as error:
                if not _is_refused_setting(error):
                    raise
            else:
                if connection.run_async(self._are_in_force):
                    return connection
                with suppress(Exception):
                    connection.close()
            self.pooled = True
        try:
            return dialect.connect(
                *args,
                **arguments,
                statement_cache_size=0,
                prepared_statement_cache_size=0,
                prepared_statement_name_func=lambda: "",
            )
        except Exception as error:
            if _is_refused_setting(error):
                self._log_once(error)
            raise

    def _log_once(self, refusal: Exception) -> None:
        """Callers only learn that the database is unavailable."""
        if not self._has_logged:
            self._has_logged = True
            log.error(
                LogEvent(
                    "database_pooler_refuses_option", reason=str(refusal), advice=_POOLER_ADVICE
                )
            )

    def begin(self, connection: Connection) -> None:
        """For SQLAlchemy's event ``begin``."""
        if self.pooled:
            calls = ", ".join(
                f"set_config('{name}', '{value}', true)" for name, value in self.settings.items()
            )
            connection.exec_driver_sql(f"SELECT {calls}")

    async def _are_in_force(self, driver: Any) -> bool:
        names = ", ".join(f"'{name}'" for name in self.settings)
        query = f"SELECT name, setting FROM pg_settings WHERE name IN ({names})"
        async with driver.transaction():  # so that a pooler uses one connection for all of it
            rows = await (await driver.prepare(query, name="")).fetch()
        return dict(map(tuple, rows)) == self.settings


def _is_refused_setting(error: Exception) -> bool:
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None) == "08P01" and "startup parameter" in str(error)
