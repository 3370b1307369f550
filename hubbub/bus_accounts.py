"""The accounts of the bus of `up`: the same as in containers, with its own passwords.

``deploy/nats/accounts.conf`` describes both. The server's folder has:

    accounts.conf            a copy of it, written at each start
    secrets/passwords.conf   a password for each user, made once
"""

import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from hubbub.data_folder import write_private
from hubbub.errors import CommandFailed
from hubbub.shipped import shipped

SHIPPED = shipped("deploy/nats/accounts.conf")
ACCOUNT = "HUBBUB"
INCLUDE = f'include "{SHIPPED.name}"'
"""A line for the server's configuration, in the folder of `provide`."""

_USER = re.compile(r"user: (\w+), password: \$(\w+)")
_GLOBAL_ACCOUNT = "$G"  # where a server without passwords keeps its streams


def provide(home: Path, *, in_use: Mapping[str, str] = MappingProxyType({})) -> Mapping[str, str]:
    """Write the accounts, and the passwords that are missing; return each user's password.

    Args:
        in_use: What an earlier call returned. Services use it, so it wins over the file.

    Raises:
        CommandFailed: the file of passwords can't be read.
    """
    accounts = SHIPPED.read_text(encoding="utf-8")
    variables = dict(_USER.findall(accounts))
    file = home / "secrets/passwords.conf"
    known = {variables[user]: in_use[user] for user in variables if user in in_use} or _kept(file)
    passwords = {name: known.get(name) or secrets.token_urlsafe(32) for name in variables.values()}
    _write(file, json.dumps(passwords, indent=2).encode())  # JSON is valid nats.conf
    write_private(home / SHIPPED.name, accounts.encode())
    _adopt_global_streams(home)
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


def _adopt_global_streams(home: Path) -> None:
    """Move streams that an older version stored without passwords into the account."""
    old, new = (home / "jetstream" / name for name in (_GLOBAL_ACCOUNT, ACCOUNT))
    if old.is_dir() and not new.exists():
        old.rename(new)
