"""Make the secrets that are missing, and give each service those that it needs.

A job that runs before everything else, any number of times. Each folder below `VOLUMES` belongs to
one container; existing files stay. A file in `GIVEN`, where the engine puts the operator's own
secrets, comes before a generated one.
"""

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.secrets.certificates import make_certificates

VOLUMES = Path("/volumes")
GIVEN = Path("/run/secrets")
BUS_USERS = ("gateway", "posts", "auth", "bootstrap", "operator", "application")
DATABASES = ("auth", "posts")
ROUTE_PORT = 6222
OWNER_AND_GROUP_READ = 0o440


def random_password() -> str:
    """Safe in URLs and in nats.conf: letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(32)


def new_signing_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class Store:
    """The volumes, and what the operator gave."""

    def __init__(self, volumes: Path, given: Path) -> None:
        self._volumes = volumes
        self._given = given

    def keep(self, owner: str, name: str, given_as: str, fresh: str | None = None) -> str:
        """The operator's secret, else the existing one, else a new one."""
        given = self._given / given_as
        kept = self._volumes / owner / name
        if given.exists():
            value = given.read_text().strip()
            if not value:
                raise SystemExit(f"{given_as} was given and is empty")
        elif kept.exists():
            value = kept.read_text().strip()
        else:
            value = fresh or random_password()
        self.write(owner, name, value)
        return value

    def given(self, name: str) -> str | None:
        """The operator's secret of that name."""
        path = self._given / name
        return path.read_text() if path.exists() else None

    def read(self, owner: str, name: str) -> str | None:
        path = self._volumes / owner / name
        return path.read_text() if path.exists() else None

    def write(self, owner: str, name: str, content: str) -> None:
        """Write it whole or not at all, and only if it differs."""
        path = self._volumes / owner / name
        text = content if content.endswith("\n") else f"{content}\n"
        if path.exists() and path.read_text() == text:
            return
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)  # a volume exists already
        draft = path.with_name(f".{name}.new")
        draft.unlink(missing_ok=True)
        draft.touch(OWNER_AND_GROUP_READ)
        draft.chmod(0o640)
        draft.write_text(text)
        draft.chmod(OWNER_AND_GROUP_READ)
        draft.replace(path)
        click.echo(f"wrote {owner}/{name}")


def make_secrets(store: Store, *, nats: Sequence[str], postgres: str, tls: bool) -> None:
    """Make what is missing, and write the files that depend on it."""
    passwords = {
        user: store.keep("nats", f"{user}_password", f"nats_{user}_password") for user in BUS_USERS
    }
    lines = [
        f"{user.upper()}_PASSWORD: {json.dumps(password)}" for user, password in passwords.items()
    ]
    store.write("nats", "passwords.conf", "\n".join(lines))
    scheme = "tls" if tls else "nats"
    for user in BUS_USERS:
        signs_in = f"{user}:{quote(passwords[user], safe='')}"
        store.write(
            user, "nats_url", ",".join(f"{scheme}://{signs_in}@{server}" for server in nats)
        )
    names = [server.rpartition(":")[0] for server in nats]
    _let_servers_meet(store, names)
    _encrypt(store, names if tls else [])

    store.keep("postgres", "postgres_password", "postgres_password")
    for name in DATABASES:
        password = store.keep("postgres", f"{name}_password", f"postgres_{name}_password")
        signs_in = f"{name}:{quote(password, safe='')}"
        store.write(name, "database_url", f"postgresql://{signs_in}@{postgres}/{name}")

    store.keep("auth", "signing_key", "auth_signing_key", new_signing_key())
    store.keep("gateway", "api_key", "api_key")


def _let_servers_meet(store: Store, names: Sequence[str]) -> None:
    """How the servers of a cluster find each other; a single server does not read it."""
    password = store.keep("nats", "route_password", "nats_route_password")
    routes = [
        f"nats-route://route:{quote(password, safe='')}@{name}:{ROUTE_PORT}" for name in names
    ]
    lines = [f"ROUTE_PASSWORD: {json.dumps(password)}", f"ROUTES: {json.dumps(routes)}"]
    store.write("nats", "routes.conf", "\n".join(lines))


def _encrypt(store: Store, names: Sequence[str]) -> None:
    """Let the servers of those names use TLS; without names there is none."""
    if not names:
        for part in ("tls", "routes_tls"):
            store.write("nats", f"{part}.conf", "# not encrypted")
        return
    authority = make_certificates(store, names)
    for user in BUS_USERS:
        store.write(user, "nats_ca.pem", authority)
    files = 'cert_file: "/etc/nats/secrets/server.pem", key_file: "/etc/nats/secrets/server.key"'
    store.write("nats", "tls.conf", f"tls {{ {files} }}")
    store.write(
        "nats",
        "routes_tls.conf",
        f'tls {{ {files}, ca_file: "/etc/nats/secrets/ca.pem", verify: true }}',
    )


@click.command(help=__doc__)
@click.option("--nats", default="nats:4222", help="The servers, with commas between them.")
@click.option("--postgres", default="postgres:5432")
@click.option("--tls", is_flag=True, help="The bus speaks TLS.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=VOLUMES,
    help="Where the folders of the containers are.",
)  # fmt: skip
def main(nats: str, postgres: str, tls: bool, folder: Path) -> None:
    """Run the job."""
    make_secrets(Store(folder, GIVEN), nats=nats.split(","), postgres=postgres, tls=tls)


if __name__ == "__main__":
    main(auto_envvar_prefix="SECRETS")
