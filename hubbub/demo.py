"""Two ready-made users to sign in as; only where nobody but this machine can reach us."""

import ipaddress
from typing import NamedTuple

from auth_service import repository
from auth_service.app import AuthParts
from auth_service.tables import UserRow
from shared.sql.database import transaction


class DemoUser(NamedTuple):
    """An account that `up` makes."""

    email: str
    name: str


DEMO_USERS = (DemoUser("ada@example.com", "Ada"), DemoUser("grace@example.com", "Grace"))
DEMO_PASSWORD = "hubbub-demo"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def ensure_demo_users(auth: AuthParts) -> list[DemoUser]:
    """Make those that are missing; return those that can sign in with the demo password.

    Somebody may have registered the email with a password of their own: that stays theirs.
    """
    for demo in DEMO_USERS:
        await auth.ensure_user(email=demo.email, name=demo.name, password=DEMO_PASSWORD)
    return [demo for demo in DEMO_USERS if await _find(auth, demo) is not None]


async def remove_demo_users(auth: AuthParts) -> None:
    """Take them out again: everybody knows their password. Their sessions go with them."""
    for demo in DEMO_USERS:
        user = await _find(auth, demo)
        if user is not None:
            async with transaction(auth.sessions) as session:
                await session.delete(await session.merge(user))


async def _find(auth: AuthParts, demo: DemoUser) -> UserRow | None:
    """The account, if it is one of ours: with another password it is somebody's own."""
    async with transaction(auth.sessions, read_only=True) as session:
        user = await repository.find_user(session, demo.email)
    if user is None:
        return None
    checked = await auth.passwords.check(user.password_hash, DEMO_PASSWORD, address="")
    return user if checked.matches else None
