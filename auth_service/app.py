"""The auth service put together: its parts as `up` needs them, and an application of its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from argon2 import PasswordHasher
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from auth_service import use_cases
from auth_service.api import create_router
from auth_service.passwords import Passwords, hashing_passwords
from auth_service.retelling import retell_for_ever
from auth_service.schemas import NewUser, Refresh, SignIn
from auth_service.settings import AuthSettings
from auth_service.signing import TokenIssuer
from auth_service.throttle import Throttle
from shared.contracts.ids import UserId
from shared.jetstream.clock import Clock, our_clock
from shared.jetstream.publisher import Publisher
from shared.nats.client import Bus
from shared.runtime.supervision import Loop, Supervisor
from shared.sql.database import DatabaseUnavailable, Sessions, connect_database, transaction
from shared.sql.outbox.metrics import OutboxMetrics
from shared.sql.outbox.relay import run_relay
from shared.sql.outbox.wake import wake_after_commit
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.keys import FixedKeys
from shared.web.http import body_limit, install_edge, operations_router

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = body_limit(NewUser, Refresh, SignIn)


@dataclass(frozen=True, slots=True)
class AuthParts:
    """The running service, without an application around it."""

    router: APIRouter
    keys: FixedKeys
    """What its tokens are checked with, for others in the same process."""
    issuer: TokenIssuer
    sessions: Sessions
    passwords: Passwords

    def ready(self) -> list[str]:
        """What stands in the way of answering: nothing; an absent bus only delays the ends."""
        return []

    async def ensure_user(self, *, email: str, name: str, password: str) -> UserId:
        """The user with this email, made if there is none; who is there stays as they are."""
        return await use_cases.ensure_user(
            self.sessions, self.passwords, email=email, name=name, password=password
        )


@asynccontextmanager
async def assembled(
    settings: AuthSettings,
    *,
    publisher: Publisher,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[AuthParts]:
    """The service without its background loops, on a migrated database."""
    issuer = TokenIssuer(
        settings.signing_key.get_secret_value(),
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        access_token_seconds=settings.access_token_seconds,
    )
    keys = FixedKeys([issuer.public_key])
    verifier = TokenVerifier(
        keys,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        hmac_secret=None,  # whom we did not sign in has no account here
        max_token_seconds=settings.max_token_seconds,
        remembered_tokens=settings.remembered_tokens,
    )
    hasher = PasswordHasher(
        time_cost=settings.argon2_passes,
        memory_cost=settings.argon2_memory_kib,
        parallelism=settings.argon2_lanes,
    )
    async with (
        hashing_passwords(
            hasher,
            threads=settings.hash_threads,
            max_waiting=settings.hash_max_waiting,
            wait_seconds=settings.hash_wait_seconds,
        ) as passwords,
        connect_database(settings.database_url) as sessions,
    ):
        router = create_router(
            sessions,
            passwords,
            issuer,
            verifier,
            publisher=publisher,
            throttle=_throttle(settings, monotonic),
            refresh_lifetime=settings.refresh_token_lifetime,
            revoke_seconds=settings.revoke_seconds,
        )
        yield AuthParts(router, keys, issuer, sessions, passwords)


@asynccontextmanager
async def serving(
    settings: AuthSettings,
    *,
    bus: Bus,
    publisher: Publisher,
    outbox_metrics: OutboxMetrics,
    supervisor: Supervisor | None = None,
) -> AsyncGenerator[AuthParts]:
    """The service with its background loops; it starts whether or not the bus is there."""
    supervisor = supervisor or Supervisor()
    outbox = outbox_metrics.of("auth")
    async with assembled(settings, publisher=publisher) as parts:
        sessions = parts.sessions
        committed = wake_after_commit(sessions)
        relay = partial(run_relay, sessions, publisher, committed, metrics=outbox)
        retell = partial(
            retell_for_ever,
            sessions,
            bus,
            publisher,
            max_token_seconds=settings.max_token_seconds,
        )
        async with supervisor.running(
            Loop("auth_relay", relay, is_vital=False),
            Loop("auth_retelling", retell, is_vital=False),
            Loop("auth_prune", partial(prune_for_ever, sessions, settings), is_vital=False),
        ):
            yield parts


def create_app(parts: AuthParts, *, registry: CollectorRegistry) -> FastAPI:
    """The service as a process of its own serves it."""
    app = FastAPI(title="Hubbub: auth")
    install_edge(app, max_body_bytes=MAX_BODY_BYTES)
    app.include_router(parts.router)
    app.include_router(operations_router(registry=registry, ready=parts.ready))
    return app


async def prune_for_ever(
    sessions: Sessions,
    settings: AuthSettings,
    *,
    now: Clock = our_clock,
    monotonic: Clock = time.monotonic,
) -> None:
    """Delete what has expired, a batch a transaction, until cancelled.

    Nothing right after our clock has jumped: it may be put right by the next time, and what
    is deleted stays deleted.
    """
    offset = now() - monotonic()
    while True:
        before, offset = offset, now() - monotonic()
        if abs(offset - before) > settings.max_clock_offset_seconds:
            log.warning("clock_jumped", seconds=round(offset - before))
        else:
            await _prune(sessions, settings)
        await asyncio.sleep(settings.prune_interval_seconds)


async def _prune(sessions: Sessions, settings: AuthSettings) -> None:
    more = True
    try:
        while more:
            async with transaction(sessions) as db:
                more = await use_cases.prune(
                    db,
                    throttle_seconds=settings.throttle_seconds,
                    max_token_seconds=settings.max_token_seconds,
                )
    except DatabaseUnavailable:
        log.warning("prune_failed")


def _throttle(settings: AuthSettings, monotonic: Callable[[], float]) -> Throttle:
    return Throttle(
        seconds=settings.throttle_seconds,
        failures_per_account=settings.failures_per_account,
        failures_per_address=settings.failures_per_address,
        registrations_per_address=settings.registrations_per_address,
        monotonic=monotonic,
    )
