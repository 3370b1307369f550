"""The posts service put together: its parts as `up` needs them, and an application of its own."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from hubbub_client.contracts.subjects import CTL_LIVE, CTL_PUB
from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.jetstream.clock import Clock, our_clock, trouble_with_clock
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.trusted_clock import TrustedClock
from hubbub_client.nats.client import Bus
from hubbub_client.outbox.limits import RelayLimits
from hubbub_client.outbox.losses import WatchedStream, watch_for_losses
from hubbub_client.outbox.relay import run_relay
from hubbub_client.outbox.wake import wake_after_commit
from hubbub_client.sql.database import connect_database
from posts_service.api import create_router
from posts_service.messages import CHANNELS
from posts_service.schemas import NewComment, NewPost, PostEdit
from posts_service.settings import PostsSettings
from shared.documents.asyncapi import asyncapi_document
from shared.jetstream.follower import Follower
from shared.jetstream.stream_configs import NOTIFY_CONSUMER
from shared.runtime.supervision import Loop, Supervisor
from shared.sql.outbox_metrics import OutboxMetrics
from shared.sql.schema import Schema
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.authentication import authenticate
from shared.tokens.revocations import CompletePosition, Revocations
from shared.web.application import Application
from shared.web.http import body_limit
from shared.web.operations import add_operations
from shared.web.origins import Origins
from shared.web.user_rates import UserRates

MAX_BODY_BYTES = body_limit(NewComment, NewPost, PostEdit)
LOOK_SECONDS = 0.05
"""How often to check whether the revocations are complete."""


@dataclass(frozen=True, slots=True)
class PostsParts:
    """The running service, without an application around it."""

    add_routes: Callable[[FastAPI], None]
    """Let an application answer at the service's URLs."""
    ready: Callable[[], list[str]]
    """Why requests can't be answered; empty if they can."""
    origins: Origins = field(default_factory=Origins)
    """Of pages that may ask."""


@asynccontextmanager
async def serving(
    settings: PostsSettings,
    *,
    bus: Bus,
    publisher: Publisher,
    verifier: TokenVerifier,
    outbox_metrics: OutboxMetrics,
    relay_limits: RelayLimits | None = None,
    supervisor: Supervisor | None = None,
    complete_at: Callable[[], CompletePosition | None] | None = None,
    now: Clock = our_clock,
) -> AsyncGenerator[PostsParts]:
    """The service with its background loops; it starts whether or not the bus is there.

    ``now`` is the clock that is compared with the bus's. ``complete_at`` is of an auth service in
    the same process: what the bus says of the revocations may come from a backup.
    """
    supervisor = supervisor or Supervisor()
    outbox = outbox_metrics.of("posts")
    revocations = Revocations(max_token_seconds=settings.longest_token_seconds)
    control = Follower(
        bus,
        "CTL",
        CTL_PUB,
        CTL_LIVE,
        deliver=partial(_apply, revocations),
        from_start=True,
        now=now,
    )
    # Once is enough: when the bus is away, the service goes on with the revocations that it knows.
    revocations_known = asyncio.Event()

    def are_complete() -> bool:
        if not revocations.are_complete(control.epoch):
            return False
        if complete_at is None:
            return True
        position = complete_at()
        return position is not None and position.is_reached(
            epoch=control.epoch, position=control.position
        )

    async def learn_revocations() -> None:
        await control.until_caught_up()
        while settings.awaits_auth_service and not are_complete():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        revocations_known.set()

    def ready() -> list[str]:
        reasons = schema.trouble()
        if not verifier.ready:
            reasons.append("the keys to check tokens with are not known yet")
        if not revocations_known.is_set():
            reasons.append("the revocations were never all known")
        reasons += trouble_with_clock(
            control.clock_ahead_seconds, at_most=settings.max_clock_offset_seconds
        )
        return reasons + supervisor.not_ready()

    async with connect_database(settings.database_url) as sessions:
        schema = Schema(sessions, "posts_service")
        await schema.look()
        committed = wake_after_commit(sessions)
        router = create_router(
            sessions,
            authenticate(verifier, revocations, revocations_known=revocations_known.is_set),
            UserRates(
                units_per_second=settings.user_units_per_second,
                burst=settings.user_burst,
                max_users=settings.max_user_buckets,
            ),
            like_notice_interval=settings.like_notice_interval,
        )
        events = WatchedStream(bus, "EVENTS", NOTIFY_CONSUMER)
        relay = partial(
            run_relay,
            sessions,
            publisher,
            committed,
            may_prune=TrustedClock(
                bus, max_offset_seconds=settings.max_clock_offset_seconds, now=now
            ).is_right,
            stream=events.stream,
            limits=relay_limits,
            metrics=outbox,
        )
        async with supervisor.running(
            Loop("posts_schema", schema.run),
            Loop("posts_control", control.run),
            Loop("posts_revocations_known", learn_revocations, may_return=True),
            Loop("posts_relay", relay, is_vital=False),
            Loop("posts_losses", partial(watch_for_losses, sessions, events), is_vital=False),
        ):
            yield PostsParts(router.add_to, ready, origins=settings.origins())


def create_app(parts: PostsParts, *, registry: CollectorRegistry) -> FastAPI:
    """The service as a process of its own serves it."""
    app = Application(
        "Hubbub: posts",
        max_body_bytes=MAX_BODY_BYTES,
        origins=parts.origins,
        messages=partial(asyncapi_document, "Hubbub: posts", CHANNELS),
    )
    parts.add_routes(app)
    add_operations(app, registry=registry, ready=parts.ready)
    return app


def _apply(revocations: Revocations, message: StoredMessage) -> None:
    revocations.apply(message.payload, stored_at=message.stored_at)
