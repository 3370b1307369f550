"""A nats-server with the users and permissions that we ship."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.fixtures.nats import NatsServer, StartServer

SHIPPED = Path(__file__).resolve().parents[2] / "deploy/nats/accounts.conf"

_USER = re.compile(
    r"user: (\w+),.*?publish: \{ allow: \[(.*?)\].*?subscribe: \{ allow: \[(.*?)\]", re.S
)
_SUBJECT = re.compile(r'"([^"]+)"')
_TRACED = re.compile(r'"HUBBUB/user:([a-z]+)" - <<- \[(PUB|HPUB|SUB) (\S+)')


class Allowed(NamedTuple):
    """One entry of the lists."""

    user: str
    verb: str
    pattern: str


def start_with_accounts(
    nats_server: StartServer, folder: Path, *, without: str = "nothing"
) -> NatsServer:
    """A server that also traces what clients send, and knows a user `root` who may do anything.

    Args:
        without: A subject that older accounts did not have.
    """
    accounts = SHIPPED.read_text().replace(f'"{without}",', "")
    users = dict.fromkeys(allowed.user for allowed in shipped())
    passwords = folder / "accounts/secrets/passwords.conf"
    passwords.parent.mkdir(parents=True)
    passwords.write_text("".join(f"{u.upper()}_PASSWORD: {password_of(u)}\n" for u in users))
    root = "users: [\n{ user: root, password: root }"
    (folder / "accounts/accounts.conf").write_text(accounts.replace("users: [", root, 1))
    return nats_server('trace: true\ninclude "../accounts/accounts.conf"\n')


def password_of(user: str) -> str:
    return "root" if user == "root" else f"sesame-{user}"


def url_of(server: NatsServer, user: str, password: str | None = None) -> str:
    """Where the user signs in."""
    return f"nats://{user}:{password or password_of(user)}@127.0.0.1:{server.port}"


def violations(server: NatsServer) -> list[str]:
    """What the server refused, as it logged it."""
    return [line for line in server.log.splitlines() if "iolation" in line]


def unused(server: NatsServer) -> list[Allowed]:
    """What is allowed and was never done, as the server traced it."""
    done = {
        (user, verb.removeprefix("H"), subject)
        for user, verb, subject in _TRACED.findall(server.log)
    }
    return [
        allowed
        for allowed in shipped()
        if not any(
            (user, verb) == (allowed.user, allowed.verb) and _covers(allowed.pattern, subject)
            for user, verb, subject in done
        )
    ]


def shipped() -> list[Allowed]:
    """All that the services' users may do."""
    return [
        Allowed(user, verb, pattern)
        for user, *lists in _USER.findall(SHIPPED.read_text())
        for verb, patterns in zip(("PUB", "SUB"), lists, strict=True)
        for pattern in _SUBJECT.findall(patterns)
    ]


def _covers(pattern: str, subject: str) -> bool:
    tokens = subject.split(".")
    for place, token in enumerate(pattern.split(".")):
        if token == ">":
            return len(tokens) > place
        if place >= len(tokens) or token not in ("*", tokens[place]):
            return False
    return len(tokens) == len(pattern.split("."))
