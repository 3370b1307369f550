"""Users of the system, who know nothing but its address."""

from dataclasses import dataclass
from secrets import token_hex

import httpx2

from tests.e2e.stack import Stack
from tests.fixtures import plain_http

PASSWORD = "a horse that nobody guesses"
ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class Person:
    """Somebody who has signed up and signed in."""

    id: int
    name: str
    token: str

    def client(self, stack: Stack) -> httpx2.AsyncClient:
        return a_client(stack, Authorization=f"Bearer {self.token}")


def a_client(stack: Stack, **headers: str) -> httpx2.AsyncClient:
    """An HTTP client of somebody outside."""
    return plain_http.client(base_url=stack.url, headers=headers, timeout=ANSWER_SECONDS)


def an_email() -> str:
    """One that nobody else has."""
    return f"{token_hex(6)}@example.com"


async def sign_up(stack: Stack, name: str) -> Person:
    """Register and sign in, through the edge."""
    account = {"email": an_email(), "name": name, "password": PASSWORD}
    async with a_client(stack) as client:
        made = await client.post("/auth/register", json=account)
        assert made.status_code == 201, made.text
        form = {"username": account["email"], "password": PASSWORD}
        tokens = await client.post("/auth/token", data=form)
        assert tokens.status_code == 200, tokens.text
    return Person(made.json()["id"], name, tokens.json()["access_token"])


async def sign_up_all(stack: Stack, *names: str) -> list[Person]:
    return [await sign_up(stack, name) for name in names]


def a_room() -> str:
    """One that no other test is in."""
    return f"room-{token_hex(4)}"
