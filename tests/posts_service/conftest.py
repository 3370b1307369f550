"""The posts service as its callers see it, on either database; no bus is needed for that."""

from collections.abc import AsyncGenerator, Callable
from datetime import timedelta

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from hubbub_client.sql.database import Sessions, connect_database
from posts_service.api import create_router
from posts_service.app import PostsParts, create_app
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.authentication import authenticate
from shared.tokens.configured import secret_issuer
from shared.tokens.revocations import Revocations
from shared.web.user_rates import UserRates
from tests.posts_service.callers import HMAC_SECRET, a_client


@pytest.fixture
async def sessions(migrated: Callable[[str], str]) -> AsyncGenerator[Sessions]:
    """An empty database of the service."""
    async with connect_database(migrated("posts_service")) as opened:
        yield opened


@pytest.fixture
def rates() -> UserRates:
    """What each may do; a test that is about it says otherwise."""
    return UserRates(units_per_second=0, burst=1, max_users=1)


@pytest.fixture
def app(sessions: Sessions, rates: UserRates) -> FastAPI:
    issuer = secret_issuer(HMAC_SECRET, audience="hubbub", max_token_seconds=86_400)
    verifier = TokenVerifier([issuer])
    authenticated = authenticate(
        verifier, Revocations(max_token_seconds=86_400), revocations_known=lambda: True
    )
    router = create_router(sessions, authenticated, rates, like_notice_interval=timedelta(days=1))
    return create_app(PostsParts(router.add_to, ready=list), registry=CollectorRegistry())


@pytest.fixture
async def ada(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """User 1."""
    async with a_client(app, 1, "Ada") as client:
        yield client


@pytest.fixture
async def grace(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """User 2."""
    async with a_client(app, 2, "Grace") as client:
        yield client
