"""People who call the auth service, and what they find in its database."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from auth_service.app import AuthParts, assembled, create_app
from auth_service.settings import AuthSettings
from auth_service.tables import FailuresRow
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.client import Bus
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import transaction
from shared.tokens.claims import SessionId
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked
from tests.fixtures.documented import Documented
from tests.fixtures.tokens import Clock

SIGNING_KEY = (
    Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
PASSWORD = "correct horse"


def a_client(
    app: FastAPI,
    *,
    address: str = "192.0.2.1",
    raise_app_exceptions: bool = True,
    documented: Documented | None = None,
) -> httpx2.AsyncClient:
    """A caller from that address, whose answers are documented."""
    transport = httpx2.ASGITransport(
        app, client=(address, 1234), raise_app_exceptions=raise_app_exceptions
    )
    hooks = (documented or Documented()).hooks
    return httpx2.AsyncClient(transport=transport, base_url="http://auth", event_hooks=hooks)


def publisher_without_a_bus() -> Publisher:
    """The real one, on a connection that nobody has opened."""
    return Publisher(Bus(inbox_prefix="_INBOX_nobody", max_pending_bytes=1))


@asynccontextmanager
async def served(settings: AuthSettings) -> AsyncGenerator[httpx2.AsyncClient]:
    """A caller of a service with these settings, on a migrated database and without a bus."""
    async with (
        assembled(settings, publisher=publisher_without_a_bus()) as parts,
        a_client(create_app(parts, registry=CollectorRegistry())) as client,
    ):
        yield client


async def register(
    client: httpx2.AsyncClient, email: str = "ann@example.com", **changes: Any
) -> httpx2.Response:
    body = {"email": email, "name": "Ann", "password": PASSWORD} | changes
    # json.dumps escapes what is no Unicode text; the client's own encoder would refuse it.
    return await post_json(client, "/auth/register", json.dumps(body).encode())


async def post_json(client: httpx2.AsyncClient, path: str, body: bytes) -> httpx2.Response:
    return await client.post(path, content=body, headers={"Content-Type": "application/json"})


async def sign_in(
    client: httpx2.AsyncClient, email: str = "ann@example.com", password: str = PASSWORD
) -> httpx2.Response:
    form = {"grant_type": "password", "username": email, "password": password}
    return await client.post("/auth/token", data=form)


async def a_signed_in_user(
    client: httpx2.AsyncClient, email: str = "ann@example.com"
) -> dict[str, Any]:
    """Register and sign in; return the pair of tokens."""
    assert (await register(client, email)).status_code == 201
    answer = await sign_in(client, email)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def refresh(client: httpx2.AsyncClient, refresh_token: str) -> httpx2.Response:
    return await client.post("/auth/token/refresh", json={"refresh_token": refresh_token})


async def me(client: httpx2.AsyncClient, access_token: str) -> httpx2.Response:
    return await client.get("/auth/me", headers=bearer(access_token))


async def sign_out(client: httpx2.AsyncClient, access_token: str) -> httpx2.Response:
    return await client.post("/auth/logout", headers=bearer(access_token))


def session_of(access_token: str) -> SessionId:
    return SessionId(jwt.decode(access_token, options={"verify_signature": False})["sid"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def revocations(parts: AuthParts) -> list[SessionRevoked]:
    """What the outbox holds for the CTL stream."""
    async with transaction(parts.sessions, read_only=True) as db:
        rows = list(await db.scalars(select(OutboxRow).order_by(OutboxRow.position)))
    assert {row.subject for row in rows} <= {SESSION_REVOKED_SUBJECT}
    return [SessionRevoked.model_validate_json(row.payload) for row in rows]


def problem_of(answer: httpx2.Response) -> tuple[int, str]:
    """Status and code of a problem document."""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def time_passes(parts: AuthParts, clock: Clock, seconds: float) -> None:
    """For what was counted so far, and for who was refused."""
    clock.now += seconds
    async with transaction(parts.sessions) as db:
        for row in await db.scalars(select(FailuresRow)):
            row.failed_at = [failed_at - seconds for failed_at in row.failed_at]
            row.last_at -= timedelta(seconds=seconds)
