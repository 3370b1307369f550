"""What is said of wrong settings, folders and databases: one line that names what is wrong."""

import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from auth_service.signing import make_signing_key
from hubbub.cli import SERVICES, cli
from tests.fixtures.commands import run_command

SECRET = "a secret of at least thirty-two bytes"
NOWHERE = "sqlite:////nowhere/at/all.sqlite3"
ADDRESS = "is not the address of a NATS server, such as nats://host:4222"
NUMBERS = "in the range 1<=x<="


@dataclass(frozen=True)
class Wrong:
    """A configuration, and what is said of it."""

    line: str
    """`{tmp}` stands for the test's folder."""
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: str = "gateway --port 0"
    status: int = 1
    as_process: bool = False
    """Whether it is started as an operator would; each takes seconds."""

    @property
    def service(self) -> str | None:
        """The service whose settings are wrong, if it is they."""
        first, *_ = self.arguments.split()
        return first if self.env and first in SERVICES else None


def gateway(name: str, value: str, line: str, **more: Any) -> Wrong:
    return Wrong(line, {"HUBBUB_HMAC_SECRET": SECRET, name: value}, **more)


def posts(name: str, value: str, line: str, **more: Any) -> Wrong:
    env = {"HUBBUB_HMAC_SECRET": SECRET, "HUBBUB_DATABASE_URL": NOWHERE, name: value}
    return Wrong(line, env, arguments="posts --port 0", **more)


def auth(name: str, value: str, line: str, **more: Any) -> Wrong:
    key = {"HUBBUB_AUTH_SIGNING_KEY_FILE": "{tmp}/key.pem"}
    env = {**key, "HUBBUB_DATABASE_URL": NOWHERE, name: value}
    return Wrong(line, env, arguments="auth --port 0", **more)


WRONG = [
    # Names.
    gateway(
        "HUBBUB_GATEWAY_PINGSECONDS",
        "20",
        "HUBBUB_GATEWAY_PINGSECONDS: no such setting; did you mean HUBBUB_GATEWAY_PING_SECONDS?",
        as_process=True,
    ),
    gateway(
        "HUBBUB_GATEWAY_HISTORY_MAX_PUBLICATIONS",
        "1000",
        "HUBBUB_GATEWAY_HISTORY_MAX_PUBLICATIONS: this setting is called"
        " HUBBUB_GATEWAY_HISTORY_MAX_PAGE now",
    ),
    gateway("HUBBUB_SESAME", "1", "HUBBUB_SESAME: no such setting"),
    gateway(
        "HUBBUB_NATS_URL_FLIE",
        "/x",
        "HUBBUB_NATS_URL_FLIE: no such setting; did you mean HUBBUB_NATS_URL_FILE?",
    ),
    gateway(
        "HUBBUB_API_KEY_FLIE",
        "/x",
        "HUBBUB_API_KEY_FLIE: no such setting; did you mean HUBBUB_API_KEY_FILE?",
    ),
    auth(
        "HUBBUB_AUTH_SIGNINGKEY",
        "x",
        "HUBBUB_AUTH_SIGNINGKEY: no such setting; did you mean HUBBUB_AUTH_SIGNING_KEY?",
    ),
    posts(
        "HUBBUB_POST_USER_BURST",
        "1",
        "HUBBUB_POST_USER_BURST: no such setting; did you mean HUBBUB_POSTS_USER_BURST?",
    ),
    Wrong(
        "HUBBUB_NATS_ULR: no such setting; did you mean HUBBUB_NATS_URL?",
        {"HUBBUB_NATS_ULR": "nats://127.0.0.1:4222"},
        arguments="bootstrap",
    ),
    # By value and by file.
    gateway(
        "HUBBUB_HMAC_SECRET_FILE",
        "/nowhere",
        "HUBBUB_HMAC_SECRET and HUBBUB_HMAC_SECRET_FILE are both set: only one of them can count",
    ),
    Wrong(
        "HUBBUB_HMAC_SECRET_FILE: /nowhere: No such file or directory",
        {"HUBBUB_HMAC_SECRET_FILE": "/nowhere"},
    ),
    Wrong("HUBBUB_HMAC_SECRET_FILE: {tmp}: Is a directory", {"HUBBUB_HMAC_SECRET_FILE": "{tmp}"}),
    Wrong(
        "HUBBUB_HMAC_SECRET_FILE: {tmp}/latin-1: not in UTF-8",
        {"HUBBUB_HMAC_SECRET_FILE": "{tmp}/latin-1"},
    ),
    Wrong(
        "HUBBUB_API_KEY_FILE: empty: it has to name a file",
        {"HUBBUB_HMAC_SECRET": SECRET, "HUBBUB_API_KEY_FILE": ""},
    ),
    gateway(
        "HUBBUB_GATEWAY_NAMESPACES",
        os.fsdecode(b'{"\xfc": {}}'),
        "HUBBUB_GATEWAY_NAMESPACES: not in UTF-8",
    ),
    # Values.
    gateway(
        "HUBBUB_LOG_LEVEL",
        "LOUD",
        "HUBBUB_LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'",
        as_process=True,
    ),
    gateway("HUBBUB_NATS_URL", "nats://", f"HUBBUB_NATS_URL: 'nats://' {ADDRESS}"),
    gateway("HUBBUB_NATS_URL", "", f"HUBBUB_NATS_URL: '' {ADDRESS}"),
    gateway(
        "HUBBUB_NATS_URL",
        "nats://a:1,nats://me:sesame@b:0",
        f"HUBBUB_NATS_URL: 'nats://b:0' {ADDRESS}",
    ),
    gateway(
        "HUBBUB_NATS_URL",
        "nats://me:se#same@bus:4222",
        f"HUBBUB_NATS_URL: 'nats://bus:4222' {ADDRESS}; is a character of its password unescaped?",
    ),
    gateway(
        "HUBBUB_NATS_URL",
        "nats://me:ses@me/x@bus",
        f"HUBBUB_NATS_URL: 'nats://bus' {ADDRESS}; is a character of its password unescaped?",
    ),
    gateway("HUBBUB_NATS_URL", "http://bus", f"HUBBUB_NATS_URL: 'http://bus' {ADDRESS}"),
    gateway(
        "HUBBUB_NATS_CREDS", "/nowhere", "HUBBUB_NATS_CREDS: /nowhere: No such file or directory"
    ),
    gateway(
        "HUBBUB_NATS_CA",
        "{tmp}/latin-1",
        "HUBBUB_NATS_CA: cannot read the CA in '{tmp}/latin-1': [X509: NO_CERTIFICATE_OR_CRL_FOUND]"
        " no certificate or crl found",
    ),
    gateway("HUBBUB_JWKS_URL", "keys.json", "HUBBUB_JWKS_URL: not an address of HTTP or HTTPS"),
    gateway("HUBBUB_HMAC_SECRET", "", "HUBBUB_HMAC_SECRET: empty: anybody could sign with it"),
    Wrong(
        "none of HUBBUB_JWKS_URL, HUBBUB_HMAC_SECRET and HUBBUB_ISSUERS is set: no token could be"
        " checked",
        {"HUBBUB_NATS_URL": "nats://127.0.0.1:1"},
        as_process=True,
    ),
    gateway("HUBBUB_ISSUERS", "{}", "HUBBUB_ISSUERS: not a list of JSON"),
    gateway("HUBBUB_GATEWAY_NAMESPACES", "[]", "HUBBUB_GATEWAY_NAMESPACES: not an object of JSON"),
    gateway("HUBBUB_ISSUERS", "[" * 100_000, "HUBBUB_ISSUERS: no JSON: "),
    gateway(
        "HUBBUB_ISSUERS",
        "[{}]",
        "HUBBUB_ISSUERS: 0: give one of jwks_url, public_key, hmac_secret and hmac_secrets",
    ),
    gateway(
        "HUBBUB_ALLOWED_ORIGINS",
        "app.example.com",
        "HUBBUB_ALLOWED_ORIGINS: 'app.example.com' is no origin: scheme://host or"
        " scheme://host:port",
    ),
    gateway(
        "HUBBUB_FORWARDED_ALLOW_IPS",
        "proxy",
        "HUBBUB_FORWARDED_ALLOW_IPS: 'proxy' is neither an address nor a network",
    ),
    gateway(
        "HUBBUB_API_KEY",
        "",
        "HUBBUB_API_KEY: empty: anybody could use /api; leave it unset to switch that off",
    ),
    gateway(
        "HUBBUB_GATEWAY_NAMESPACES",
        "{",
        "HUBBUB_GATEWAY_NAMESPACES: no JSON: Expecting property name enclosed in double quotes:"
        " line 1 column 2 (char 1)",
    ),
    gateway(
        "HUBBUB_GATEWAY_WITHOUT_NAMESPACE",
        "chat",
        "HUBBUB_GATEWAY_WITHOUT_NAMESPACE: no JSON: Expecting value: line 1 column 1 (char 0)",
    ),
    gateway(
        "HUBBUB_GATEWAY_NAMESPACES",
        '{"chat": {}, "score": {"history": false, "force_positioning": true}}',
        "HUBBUB_GATEWAY_NAMESPACES: score: force_positioning needs history",
    ),
    gateway(
        "HUBBUB_GATEWAY_CROWD_RESUME",
        "300",
        "HUBBUB_GATEWAY_CROWD_RESUME is not below HUBBUB_GATEWAY_CROWD_SIZE",
    ),
    gateway(
        "HUBBUB_GATEWAY_LEASE_SECONDS",
        "1",
        "HUBBUB_GATEWAY_LEASE_SECONDS is less than two times HUBBUB_GATEWAY_RENEW_SECONDS",
    ),
    gateway(
        "HUBBUB_GATEWAY_PING_SECONDS",
        "inf",
        "HUBBUB_GATEWAY_PING_SECONDS: Input should be less than or equal to 3153600000",
    ),
    gateway(
        "HUBBUB_GATEWAY_RING_BYTES",
        "64 MiB",
        "HUBBUB_GATEWAY_RING_BYTES: Input should be a valid integer, unable to parse string as an"
        " integer",
    ),
    gateway(
        "HUBBUB_GATEWAY_PROXY_REFRESH_URL",
        "http://app/refresh",
        "HUBBUB_GATEWAY_PROXY_REFRESH_URL is for those whom HUBBUB_GATEWAY_PROXY_CONNECT_URL"
        " let in",
    ),
    gateway(
        "HUBBUB_GATEWAY_CLIENT_INSECURE",
        "true",
        "HUBBUB_GATEWAY_CLIENT_INSECURE: only with --host on loopback, not on 0.0.0.0",
        arguments="gateway --host 0.0.0.0 --port 0",
    ),
    auth(
        "HUBBUB_AUTH_SIGNING_KEY_FILE",
        "{tmp}/latin-1",
        "HUBBUB_AUTH_SIGNING_KEY_FILE: {tmp}/latin-1: not in UTF-8",
    ),
    auth(
        "HUBBUB_AUTH_SIGNING_KEY_FILE",
        "{tmp}/nothing",
        "HUBBUB_AUTH_SIGNING_KEY: not a private key in PEM",
    ),
    auth(
        "HUBBUB_AUTH_ARGON2_MEMORY_KIB",
        "1",
        "HUBBUB_AUTH_ARGON2_MEMORY_KIB is under 32, which is 8 for each of"
        " HUBBUB_AUTH_ARGON2_LANES",
    ),
    auth(
        "HUBBUB_AUTH_ACCESS_TOKEN_SECONDS",
        "90000",
        "HUBBUB_AUTH_ACCESS_TOKEN_SECONDS is over HUBBUB_MAX_TOKEN_SECONDS: every service would"
        " refuse our tokens",
    ),
    # Databases.
    posts(
        "HUBBUB_DATABASE_URL",
        "foo",
        "HUBBUB_DATABASE_URL: not the URL of a database: is a character in it unescaped?",
    ),
    posts(
        "HUBBUB_DATABASE_URL",
        "mysql://me:sesame@db/posts",
        "HUBBUB_DATABASE_URL: not the URL of a SQLite or PostgreSQL database",
    ),
    posts(
        "HUBBUB_DATABASE_URL",
        "sqlite://posts.sqlite3",
        "HUBBUB_DATABASE_URL: a SQLite file comes after three slashes, sqlite:///file, and an"
        " absolute path after four",
    ),
    posts(
        "HUBBUB_DATABASE_URL",
        "sqlite:////nowhere/posts.sqlite3?mode=ro&cache=shared",
        "HUBBUB_DATABASE_URL: a SQLite file takes no options: leave out mode, cache",
    ),
    posts(
        "HUBBUB_DATABASE_URL",
        "sqlite://",
        "HUBBUB_DATABASE_URL: no process sees another's memory: name a file, sqlite:///file",
    ),
    Wrong(
        "HUBBUB_DATABASE_URL: no process sees another's memory: name a file, sqlite:///file",
        {"HUBBUB_DATABASE_URL": "sqlite:///:memory:"},
        arguments="migrate --service posts",
    ),
    posts(
        "HUBBUB_DATABASE_URL",
        "postgresql://me:sesame@db:99999/posts",
        "HUBBUB_DATABASE_URL: no port is 99999",
    ),
    Wrong(
        "HUBBUB_DATABASE_URL: not set", {"HUBBUB_HMAC_SECRET": SECRET}, arguments="posts --port 0"
    ),
    Wrong(
        "posts: the database's file is damaged, or not a database: file is not a database"
        " ({tmp}/latin-1)",
        {"HUBBUB_DATABASE_URL": "sqlite:///{tmp}/latin-1"},
        arguments="migrate --service posts",
        as_process=True,
    ),
    Wrong(
        "posts: the database does not answer now: [Errno 111] Connection refused (127.0.0.1:1/x)",
        {"HUBBUB_DATABASE_URL": "postgresql://me:sesame@127.0.0.1:1/x"},
        arguments="migrate --service posts",
        as_process=True,
    ),
    Wrong(
        "auth: the database is another service's or application's ({tmp}/posts.sqlite3)",
        {"HUBBUB_DATABASE_URL": "sqlite:///{tmp}/posts.sqlite3"},
        arguments="migrate --service auth",
        as_process=True,
    ),
    Wrong(
        "auth: a newer version of Hubbub has migrated it, to revision 9999: run that version"
        " ({tmp}/newer/auth.sqlite3)",
        arguments="migrate --data {tmp}/newer",
        as_process=True,
    ),
    # Data folders, and who answers at all.
    Wrong(
        "cannot make {tmp}/latin-1/x: Not a directory",
        arguments="up --port 0 --data {tmp}/latin-1/x",
    ),
    Wrong(
        "nothing runs on {tmp}: start `hubbub up`, or name a NATS server by --nats or"
        " HUBBUB_NATS_URL",
        arguments="publish chat:a 1 --data {tmp}",
    ),
    Wrong(
        "cannot listen on 203.0.113.1:0: Cannot assign requested address",
        {"HUBBUB_HMAC_SECRET": SECRET},
        arguments="gateway --host 203.0.113.1 --port 0",
    ),
    Wrong(
        "cannot listen on bücher..example:0: ",
        {"HUBBUB_HMAC_SECRET": SECRET},
        arguments="gateway --host bücher..example --port 0",
    ),
    Wrong(
        "cannot listen on port 0: the host is empty",
        {"HUBBUB_HMAC_SECRET": SECRET},
        arguments="gateway --host= --port 0",
    ),
    Wrong("Invalid value for '--data': empty", arguments="up --data=", status=2),
    Wrong(
        f"Invalid value for '--workers': 65 is not {NUMBERS}64.",
        arguments="gateway --port 0 --workers 65",
        status=2,
    ),
]


@pytest.fixture
def tmp(tmp_path: Path) -> Path:
    """A folder with files that are wrong, each in its way."""
    make_signing_key(tmp_path / "key.pem")
    (tmp_path / "latin-1").write_bytes(b"\xfc" * 4096)
    (tmp_path / "nothing").write_bytes(b"")
    (tmp_path / "newer").mkdir()
    migrated_to("9999", tmp_path / "newer/auth.sqlite3", table="users")
    migrated_to("0004", tmp_path / "posts.sqlite3", table="posts")
    return tmp_path


def migrated_to(revision: str, file: Path, *, table: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        database.execute("INSERT INTO alembic_version VALUES (?)", [revision])
        database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)")


pytestmark = pytest.mark.usefixtures("bare_process")

Filled = Callable[[str], str]


@pytest.fixture
def filled(tmp: Path) -> Filled:
    return lambda text: text.replace("{tmp}", str(tmp))


def run_here(arguments: list[str], env: Mapping[str, str]) -> Result:
    return CliRunner().invoke(cli, arguments, env=env)


def told(output: str) -> str:
    """The one line, without what click says of usage."""
    *others, line = output.splitlines()
    assert all(re.match("Usage: |Try |$", other) for other in others), output
    return line


def title(wrong: Wrong) -> str:
    return wrong.line[:60]


@pytest.mark.parametrize("wrong", [each for each in WRONG if not each.as_process], ids=title)
def test_what_is_wrong_is_one_line_and_a_status(wrong: Wrong, filled: Filled) -> None:
    env = {name: filled(value) for name, value in wrong.env.items()}

    ended = run_here(filled(wrong.arguments).split(), env)

    assert isinstance(ended.exception, SystemExit), ended.exception
    assert told(ended.stderr).startswith(f"Error: {filled(wrong.line)}")
    assert (ended.exit_code, ended.stdout) == (wrong.status, "")
    assert "sesame" not in ended.stderr


@pytest.mark.parametrize("wrong", [each for each in WRONG if each.as_process], ids=title)
def test_the_process_says_it_alone_and_without_a_traceback(wrong: Wrong, filled: Filled) -> None:
    env = {name: filled(value) for name, value in wrong.env.items()}

    ended = run_command(*filled(wrong.arguments).split(), env=os.environ | env)

    assert ended.stderr == f"Error: {filled(wrong.line)}\n"
    assert (ended.returncode, ended.stdout) == (wrong.status, "")


@pytest.mark.parametrize(
    "wrong",
    [each for each in WRONG if each.service and "--host" not in each.arguments],
    ids=title,
)
def test_the_check_of_the_configuration_says_the_same_as_the_service(
    wrong: Wrong, filled: Filled
) -> None:
    env = {name: filled(value) for name, value in wrong.env.items()}

    ended = run_here(["check-config", str(wrong.service)], env)

    assert told(ended.stderr).startswith(f"{wrong.service}: {filled(wrong.line)}")
    assert (ended.exit_code, ended.stdout) == (1, "")


def test_there_are_forty_of_them() -> None:
    assert len(WRONG) >= 40
