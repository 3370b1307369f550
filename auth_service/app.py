"""The auth service put together: its parts as `up` needs them, and an application of its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import structlog
from argon2 import PasswordHasher
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from auth_service import use_cases
from auth_service.api import create_router
from auth_service.passwords import Passwords, hashing_passwords
from auth_service.retelling import Retelling
from auth_service.schemas import NewUser, Refresh, SignIn
from auth_service.settings import AuthSettings
from auth_service.signing import TokenIssuer
from auth_service.throttle import Throttle
from hubbub_client.jetstream.clock import Clock, our_clock, trouble_with_clock
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.trusted_clock import TrustedClock
from hubbub_client.nats.client import Bus
from hubbub_client.outbox.relay import run_relay
from hubbub_client.outbox.wake import wake_after_commit
from hubbub_client.sql.database import DatabaseUnavailable, Sessions, connect_database, transaction
from shared.runtime.supervision import Loop, Supervisor
from shared.sql.outbox_metrics import OutboxMetrics
from shared.sql.schema import Schema
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.configured import own_issuer
from shared.tokens.keys import FixedKeys
from shared.tokens.revocations import CompletePosition
from shared.web.application import Application
from shared.web.http import body_limit
from shared.web.operations import add_operations
from shared.web.origins import Origins

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = body_limit(NewUser, Refresh, SignIn)


def _unknown() -> CompletePosition | None:
    return None


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class AuthParts:
    """The running service, without an application around it."""

    add_routes: Callable[[FastAPI], None]
    """Let an application answer at the service's URLs."""
    keys: FixedKeys
    """To verify its tokens with, for others in the same process."""
    issuer: TokenIssuer
    sessions: Sessions
    passwords: Passwords
    ready: Callable[[], list[str]] = list
    """Why nobody can sign in. An absent bus is no reason: it only delays revocations."""
    complete_at: Callable[[], CompletePosition | None] = _unknown
    """Up to where this process knows the bus to hold all revocations."""
    until_complete: Callable[[], Awaitable[None]] = _never
    origins: Origins = field(default_factory=Origins)
    """Of pages that may ask."""

    async def ensure_user(self, *, email: str, name: str, password: str) -> bool:
        """Make the user with this email, if there is none; an existing account is not changed.

        Returns:
            Whether the account has this password.
        """
        return await use_cases.ensure_user(
            self.sessions, self.passwords, email=email, name=name, password=password
        )

    async def delete_user(self, *, email: str, password: str) -> bool:
        """Delete the account with this email, if it has this password; return whether it had."""
        return await use_cases.delete_user(
            self.sessions, self.passwords, email=email, password=password
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
    ourselves = own_issuer(
        keys,
        name=settings.token_issuer,
        audience=settings.token_audience,
        max_token_seconds=settings.max_token_seconds,
    )
    # Alone: whom we did not sign in has no account here.
    verifier = TokenVerifier([ourselves], remembered_tokens=settings.remembered_tokens)
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
        yield AuthParts(
            router.add_to, keys, issuer, sessions, passwords, origins=settings.origins()
        )


@asynccontextmanager
async def serving(
    settings: AuthSettings,
    *,
    bus: Bus,
    publisher: Publisher,
    outbox_metrics: OutboxMetrics,
    supervisor: Supervisor | None = None,
    now: Clock = our_clock,
) -> AsyncGenerator[AuthParts]:
    """The service with its background loops; it starts whether or not the bus is there.

    ``now`` is the clock that is compared with the bus's.
    """
    supervisor = supervisor or Supervisor()
    outbox = outbox_metrics.of("auth")
    async with assembled(settings, publisher=publisher) as parts:
        sessions = parts.sessions
        schema = Schema(sessions, "auth_service")
        await schema.look()
        committed = wake_after_commit(sessions)
        clock = TrustedClock(bus, max_offset_seconds=settings.max_clock_offset_seconds, now=now)
        relay = partial(
            run_relay, sessions, publisher, committed, may_prune=clock.is_right, metrics=outbox
        )
        prune = partial(prune_for_ever, sessions, settings, may_prune=clock.is_right)
        retelling = Retelling(
            sessions, bus, publisher, max_token_seconds=settings.max_token_seconds, now=now
        )

        def ready() -> list[str]:
            # With a clock that is off, our tokens are refused everywhere.
            reasons = trouble_with_clock(
                retelling.clock_ahead_seconds, at_most=settings.max_clock_offset_seconds
            )
            return schema.trouble() + reasons + supervisor.not_ready()

        async with supervisor.running(
            Loop("auth_schema", schema.run),
            Loop("auth_relay", relay, is_vital=False),
            Loop("auth_retelling", retelling.run, is_vital=False),
            Loop("auth_prune", prune, is_vital=False),
        ):
            yield replace(
                parts,
                ready=ready,
                complete_at=lambda: retelling.complete_at,
                until_complete=retelling.until_complete,
            )


def create_app(parts: AuthParts, *, registry: CollectorRegistry) -> FastAPI:
    """The service as a process of its own serves it."""
    app = Application("Hubbub: auth", max_body_bytes=MAX_BODY_BYTES, origins=parts.origins)
    parts.add_routes(app)
    add_operations(app, registry=registry, ready=parts.ready)
    return app


async def prune_for_ever(
    sessions: Sessions, settings: AuthSettings, *, may_prune: Callable[[], Awaitable[bool]]
) -> None:
    """Delete what has expired, one batch in each transaction, until cancelled.

    Args:
        may_prune: Whether our clock can be trusted, as `TrustedClock.is_right` says.
    """
    while True:
        more = True
        try:
            while more and await may_prune():
                async with transaction(sessions) as db:
                    more = await use_cases.prune(
                        db,
                        throttle_seconds=settings.throttle_seconds,
                        max_token_seconds=settings.max_token_seconds,
                    )
        except DatabaseUnavailable:
            log.warning("prune_failed")
        await asyncio.sleep(settings.prune_interval_seconds)


def _throttle(settings: AuthSettings, monotonic: Callable[[], float]) -> Throttle:
    return Throttle(
        seconds=settings.throttle_seconds,
        failures_per_account=settings.failures_per_account,
        failures_per_address=settings.failures_per_address,
        registrations_per_address=settings.registrations_per_address,
        monotonic=monotonic,
    )
