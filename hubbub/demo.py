"""Two demo users, whose password is public: they exist only where `up` listens on loopback."""

from typing import NamedTuple

from auth_service.app import AuthParts


class DemoUser(NamedTuple):
    """An account that `up` makes."""

    email: str
    name: str


DEMO_USERS = (DemoUser("ada@example.com", "Ada"), DemoUser("grace@example.com", "Grace"))
DEMO_PASSWORD = "hubbub-demo"


async def ensure_demo_users(auth: AuthParts) -> list[DemoUser]:
    """Make those that are missing; return those that can sign in with the demo password.

    Somebody may have registered the email with another password: that account stays theirs.
    """
    return [
        demo
        for demo in DEMO_USERS
        if await auth.ensure_user(email=demo.email, name=demo.name, password=DEMO_PASSWORD)
    ]


async def delete_demo_users(auth: AuthParts) -> bool:
    """Delete the accounts that have the demo password; return whether there were any."""
    deleted = [
        await auth.delete_user(email=demo.email, password=DEMO_PASSWORD) for demo in DEMO_USERS
    ]
    return any(deleted)
