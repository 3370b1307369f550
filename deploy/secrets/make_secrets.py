"""Make the secrets that are missing, and give each to those who need it and to nobody else.

A one-shot job that runs before everything else, any number of times. Each folder below
`VOLUMES` is one container's; what lies there stays. A file in `GIVEN`, where the engine puts
an operator's own secrets, comes before what was made here.
"""

import argparse
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certificates import make_certificates

VOLUMES = Path("/volumes")
GIVEN = Path("/run/secrets")
BUS_USERS = ("gateway", "posts", "auth", "bootstrap", "operator")
DATABASES = ("auth", "posts")
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
        """The secret that the operator gave, else the one that is there, else a fresh one."""
        given = self._given / given_as
        kept = self._volumes / owner / name
        if given.exists():
            value = given.read_text().strip()
        elif kept.exists():
            value = kept.read_text().strip()
        else:
            value = fresh or random_password()
        self.write(owner, name, value)
        return value

    def given(self, name: str) -> str | None:
        """What the operator gave under that name."""
        path = self._given / name
        return path.read_text() if path.exists() else None

    def read(self, owner: str, name: str) -> str | None:
        path = self._volumes / owner / name
        return path.read_text() if path.exists() else None

    def write(self, owner: str, name: str, content: str) -> None:
        """Write it at once or not at all, and only if it is another."""
        path = self._volumes / owner / name
        text = content if content.endswith("\n") else f"{content}\n"
        if path.exists() and path.read_text() == text:
            return
        draft = path.with_name(f".{name}.new")
        draft.unlink(missing_ok=True)
        draft.touch(OWNER_AND_GROUP_READ)
        draft.chmod(0o640)
        draft.write_text(text)
        draft.chmod(OWNER_AND_GROUP_READ)
        draft.replace(path)
        print(f"wrote {owner}/{name}")  # noqa: T201 a job tells what it did


def make_secrets(store: Store, *, nats: Sequence[str], postgres: str, tls: bool) -> None:
    """Make what is missing, and write what follows from it."""
    passwords = {
        user: store.keep("nats", f"{user}_password", f"nats_{user}_password") for user in BUS_USERS
    }
    lines = [
        f"{user.upper()}_PASSWORD: {json.dumps(password)}" for user, password in passwords.items()
    ]
    store.write("nats", "passwords.conf", "\n".join(lines))
    # A file of its own: a server that is alone would stumble over what it never uses.
    route = store.keep("nats", "route_password", "nats_route_password")
    store.write("nats", "route.conf", f"ROUTE_PASSWORD: {json.dumps(route)}")

    scheme = "tls" if tls else "nats"
    for user in BUS_USERS:
        signs_in = [f"{scheme}://{user}:{quote(passwords[user], safe='')}@{server}" for server in nats]
        store.write(user, "nats_url", ",".join(signs_in))

    store.keep("postgres", "postgres_password", "postgres_password")
    for name in DATABASES:
        password = store.keep("postgres", f"{name}_password", f"postgres_{name}_password")
        signs_in = f"{name}:{quote(password, safe='')}"
        store.write(name, "database_url", f"postgresql://{signs_in}@{postgres}/{name}")

    store.keep("auth", "signing_key", "auth_signing_key", new_signing_key())
    store.keep("gateway", "api_key", "api_key")
    if tls:
        names = [server.rpartition(":")[0] for server in nats]
        authority = make_certificates(store, names)
        for user in BUS_USERS:
            store.write(user, "nats_ca.pem", authority)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nats", default="nats:4222", help="servers, with commas between them")
    parser.add_argument("--postgres", default="postgres:5432")
    parser.add_argument("--tls", action="store_true", help="the bus speaks TLS")
    options = parser.parse_args()
    make_secrets(
        Store(VOLUMES, GIVEN),
        nats=options.nats.split(","),
        postgres=options.postgres,
        tls=options.tls,
    )


if __name__ == "__main__":
    main()
