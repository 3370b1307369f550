"""Who may do what on the bus of `up`: the accounts that containers have, with passwords of its own.

One description for both: ``deploy/nats/accounts.conf``. What lies in the server's folder:

    accounts.conf            a copy, as new as we are
    secrets/passwords.conf   a password for each of its users, made once
"""

import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from hubbub.data_folder import write_private
from hubbub.errors import CommandFailed

SHIPPED = Path(__file__).parent.parent / "deploy/nats/accounts.conf"
ACCOUNT = "HUBBUB"
INCLUDE = f'include "{SHIPPED.name}"'
"""For the server's configuration, in the folder of `provide`."""

_USER = re.compile(r"user: (\w+), password: \$(\w+)")
_NOBODYS_ACCOUNT = "$G"  # where a server that asks for no password keeps its streams


def provide(home: Path, *, in_use: Mapping[str, str] = MappingProxyType({})) -> Mapping[str, str]:
    """See that the accounts and the passwords are there; return each user's password.

    Args:
        in_use: What an earlier call returned: services sign in by it, whatever lies there now.

    Raises:
        CommandFailed: the passwords that are there can't be read.
    """
    accounts = SHIPPED.read_text(encoding="utf-8")
    variables = dict(_USER.findall(accounts))
    file = home / "secrets/passwords.conf"
    known = {variables[user]: in_use[user] for user in variables if user in in_use} or _kept(file)
    passwords = {name: known.get(name) or secrets.token_urlsafe(32) for name in variables.values()}
    _write(file, json.dumps(passwords, indent=2).encode())  # JSON is nats.conf, too
    write_private(home / SHIPPED.name, accounts.encode())
    _adopt_streams_of_nobody(home)
    return {user: passwords[variable] for user, variable in variables.items()}


def _kept(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_bytes())) if file.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise CommandFailed(
            f"cannot read the bus's passwords in {file}: delete it, and new ones are made"
        ) from error


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    if not file.exists() or file.read_bytes() != content:
        write_private(file, content)


def _adopt_streams_of_nobody(home: Path) -> None:
    """What was stored before anybody had a password belongs to the account from now on."""
    old, new = (home / "jetstream" / name for name in (_NOBODYS_ACCOUNT, ACCOUNT))
    if old.is_dir() and not new.exists():
        old.rename(new)
