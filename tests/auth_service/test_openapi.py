"""The OpenAPI document of auth: each answer that it lists is given, and no other one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn, cast

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from auth_service.api import MAX_FORM_BYTES, create_router
from auth_service.app import MAX_BODY_BYTES, AuthParts, assembled, create_app
from auth_service.hash_queue import TooBusy
from auth_service.settings import AuthSettings
from auth_service.throttle import Throttle
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import Bus
from hubbub_client.sql.database import DatabaseUnavailable, Sessions
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.configured import own_issuer
from tests.auth_service.people import (
    a_client,
    bearer,
    me,
    publisher_without_a_bus,
    refresh,
    register,
    sign_in,
    sign_out,
)
from tests.fixtures.documented import Documented

Client = httpx2.AsyncClient


class FailingSessions:
    """A database whose sessions can't be opened."""

    unfit_because = None

    def __init__(self, error: Exception) -> None:
        self._error = error

    def begin(self) -> NoReturn:
        raise self._error

    reading = begin


@asynccontextmanager
async def calling(parts: AuthParts, documented: Documented) -> AsyncGenerator[Client]:
    app = create_app(parts, registry=CollectorRegistry())
    async with a_client(app, raise_app_exceptions=False, documented=documented) as client:
        yield client


def failing(parts: AuthParts, settings: AuthSettings, error: Exception) -> AuthParts:
    """The same service without its database, and so without a key to show."""
    issuer = own_issuer(
        parts.keys,
        name=settings.token_issuer,
        audience=settings.token_audience,
        max_token_seconds=settings.max_token_seconds,
    )
    nothing: Any = None
    router = create_router(
        cast(Sessions, FailingSessions(error)),
        parts.passwords,
        nothing,
        TokenVerifier([issuer]),
        publisher=nothing,
        throttle=Throttle(
            seconds=60,
            failures_per_account=10,
            failures_per_address=10,
            registrations_per_address=10,
        ),
        refresh_lifetime=timedelta(days=1),
        revoke_seconds=1,
    )
    return replace(parts, add_routes=router.add_to)


async def call_everything(client: Client, pair: dict[str, Any]) -> None:
    await client.get("/auth/.well-known/jwks.json")
    await register(client, "another@example.com")
    await sign_in(client)
    await refresh(client, pair["refresh_token"])
    await me(client, pair["access_token"])
    await sign_out(client, pair["access_token"])


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_each_answer_that_the_document_lists_is_given_and_no_other(
    settings: AuthSettings, bus: Bus
) -> None:
    documented = Documented()
    limits = {"failures_per_account": 1, "registrations_per_address": 4, "revoke_seconds": 60}
    few = settings.model_copy(update=limits)
    impatient = settings.model_copy(update={"revoke_seconds": 0.1})
    async with (
        start_publisher(bus) as publisher,
        assembled(few, publisher=publisher) as parts,
        calling(parts, documented) as client,
    ):
        await register(client)
        await register(client)
        await register(client, "no email")
        too_long = b"x" * (MAX_BODY_BYTES + 1)
        for path in ("/auth/register", "/auth/token/refresh"):
            await client.post(path, content=too_long)
        await client.post("/auth/token", data={"username": "x" * MAX_FORM_BYTES})
        await client.post("/auth/token", data={})
        await client.post("/auth/token/refresh", json={})
        await refresh(client, "none")
        await me(client, "none")
        await client.post("/auth/logout", headers=bearer("none"))
        pair = (await sign_in(client)).json()
        await call_everything(client, pair)
        for number in range(4):
            await register(client, f"more-{number}@example.com")
        for _ in range(2):
            await sign_in(client, password="not the password")

    async with assembled(impatient, publisher=publisher_without_a_bus()) as parts:
        async with calling(parts, documented) as client:
            await register(client, "late@example.com")
            pair = (await sign_in(client, "late@example.com")).json()
            await sign_out(client, pair["access_token"])
        for error in (DatabaseUnavailable(), RuntimeError("a defect")):
            async with calling(failing(parts, settings, error), documented) as client:
                await call_everything(client, pair)
        async with calling(failing(parts, settings, TooBusy()), documented) as client:
            await register(client)
            await sign_in(client)

    assert sorted(documented.seen) == sorted(documented.told("/auth"))
