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

from hubbub.data_folder import write_private
from hubbub.errors import CommandFailed

SHIPPED = Path(__file__).parent.parent / "deploy/nats/accounts.conf"
ACCOUNT = "HUBBUB"
INCLUDE = f'include "{SHIPPED.name}"'
"""For the server's configuration, in the folder of `provide`."""

_USER = re.compile(r"user: (\w+), password: \$(\w+)")
_NOBODYS_ACCOUNT = "$G"  # where a server that asks for no password keeps its streams


def provide(home: Path) -> Mapping[str, str]:
    """See that the accounts and the passwords are there; return each user's password.

    Raises:
        CommandFailed: the passwords that are there can't be read.
    """
    accounts = SHIPPED.read_text(encoding="utf-8")
    variables = dict(_USER.findall(accounts))
    passwords = _passwords(home / "secrets/passwords.conf", list(variables.values()))
    write_private(home / SHIPPED.name, accounts.encode())
    _adopt_streams_of_nobody(home)
    return {user: passwords[variable] for user, variable in variables.items()}


def _passwords(file: Path, variables: list[str]) -> dict[str, str]:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        kept = dict(json.loads(file.read_bytes())) if file.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise CommandFailed(
            f"cannot read the bus's passwords in {file}: delete it, and new ones are made"
        ) from error
    wanted = {name: kept.get(name) or secrets.token_urlsafe(32) for name in variables}
    if wanted != kept:
        write_private(file, json.dumps(wanted, indent=2).encode())  # JSON is nats.conf, too
    return wanted


def _adopt_streams_of_nobody(home: Path) -> None:
    """What was stored before anybody had a password belongs to the account from now on."""
    old, new = (home / "jetstream" / name for name in (_NOBODYS_ACCOUNT, ACCOUNT))
    if old.is_dir() and not new.exists():
        old.rename(new)
