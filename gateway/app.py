"""The gateway put together: its parts as `up` needs them, and an application of its own."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gateway import configured
from gateway.channels.registry import ConnectionManager, Fanout, for_each
from gateway.cluster import Cluster
from gateway.control import Control
from gateway.messages import CHANNELS
from gateway.metrics import GatewayMetrics
from gateway.notify import Notifier, NotifyCounters, NotifyLimits
from gateway.presence.presence import Presence
from gateway.protocols.centrifuge.endpoints import http_endpoints, websocket_endpoints
from gateway.protocols.centrifuge.orders import Orders
from gateway.protocols.centrifuge.service import CentrifugeService
from gateway.protocols.chat.announcements import Announcements
from gateway.protocols.chat.client import chat_endpoint
from gateway.protocols.chat.service import ChatService, tell_hole
from gateway.server_api.api import Api
from gateway.server_api.ordering import Ordering
from gateway.server_api.publishing import Publishing
from gateway.server_api.reading import Reading
from gateway.server_api.routes import add_api, api_shortcuts
from gateway.server_api.surveying import Surveying
from gateway.session.access import Access, Authenticator, Occupancy, UserLimit, connection_limit
from gateway.session.clock import ClockWatch
from gateway.session.readiness import Readiness
from gateway.session.session import SessionKind
from gateway.settings import GatewaySettings
from gateway.siblings import Siblings
from gateway.streams.brief_cache import CacheLimits
from gateway.streams.catch_up import CatchUp, CatchUpLimits
from gateway.streams.encodings import Encodings
from gateway.streams.ephemeral import EphemeralFeed
from gateway.streams.feed import Feed
from gateway.streams.history import History
from gateway.streams.pages import PageLimits, Pages
from gateway.streams.publishing import ChannelPublisher, PublishingLimits
from gateway.streams.refill import refill
from gateway.streams.ring import Ring
from gateway.streams.shared_reads import SharedReads
from gateway.transport.hub import Hub
from gateway.transport.sniffer import websocket_options
from hubbub_client.contracts.subjects import CTL_LIVE, CTL_PUB
from hubbub_client.jetstream.clock import Clock, our_clock, trouble_with_clock
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from shared.documents.asyncapi import asyncapi_document
from shared.jetstream.follower import Follower
from shared.runtime.supervision import Loop, Supervisor
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.revocations import CompletePosition, Revocations
from shared.web.application import Application
from shared.web.operations import add_operations
from shared.web.origins import Origins

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """The running gateway, without an application around it."""

    add_routes: Callable[[FastAPI], None]
    """Let an application answer at the gateway's URLs."""
    ready: Callable[[], list[str]]
    """What stands in the way of serving; empty when nothing does."""
    drain: Callable[[], Awaitable[None]]
    """Ask everybody to come back elsewhere; when nobody new is let in any more."""
    server_options: Mapping[str, Any]
    """Options for `shared.runtime.process.server_config`: how it is served, with its WebSockets."""
    manager: ConnectionManager
    origins: Origins
    """Of pages that may ask."""


class Gateway:
    """The rooms of one gateway and how they hang together. Nothing runs yet."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        bus: Bus,
        publisher: Publisher,
        presence_publisher: Publisher,
        verifier: TokenVerifier,
        registry: CollectorRegistry,
        supervisor: Supervisor,
        complete_at: Callable[[], CompletePosition | None] | None,
        now: Clock,
    ) -> None:
        """``presence_publisher`` is one of its own: while a stream has no leader, what is meant
        for it takes up a whole window, and the lease is not to wait behind that.
        """
        self._complete_at = complete_at
        self._was_complete = complete_at is None
        self._awaits_auth_service = settings.awaits_auth_service
        self.settings = settings
        self._bus = bus
        self._verifier = verifier
        self._supervisor = supervisor
        self._draining = False
        self.metrics = GatewayMetrics(registry)
        self.hub = Hub(
            configured.transport_limits(settings),
            on_closed=lambda close: self.metrics.closed(close.code),
            on_failed=self.metrics.failed_connections.inc,
        )
        self.manager = ConnectionManager(self.hub.coalescer)
        self.clock_watch = ClockWatch(
            self._end_with_tokens, settle_seconds=settings.clock_settle_seconds
        )
        self._revocations = Revocations(max_token_seconds=settings.longest_token_seconds)
        self.control = Follower(
            bus,
            "CTL",
            CTL_PUB,
            CTL_LIVE,
            deliver=Control(self._revocations, self.manager).heed,
            on_filled=self.metrics.filled("CTL"),
            from_start=True,
            now=now,
        )
        self.presence = Presence(
            bus,
            presence_publisher,
            on_change=lambda change: self.announcements.announce(change),
            on_client_change=lambda change: self.centrifuge.announce(change),
            is_watched=lambda channel: self.centrifuge.is_watched(channel),
            limits=configured.presence_limits(settings),
        )
        self.announcements = Announcements(
            self.manager,
            self.presence,
            crowd_size=settings.crowd_size,
            crowd_resume=settings.crowd_resume,
            crowd_seconds=settings.crowd_seconds,
        )
        fanout = Fanout(self.manager, self.metrics)
        self.feed = Feed(
            bus,
            ring=Ring(max_count=settings.ring_messages, max_bytes=settings.ring_bytes),
            fan_out=fanout.deliver,
            on_reset=fanout.start_over,
            on_filled=self.metrics.filled("RT"),
            on_skipped=self.metrics.skipped,
            on_undecodable=self.metrics.unreadable,
            after=self.control,
        )
        history = History(StreamReader(bus, "RT"))
        self.notifier = Notifier(
            bus,
            publisher,
            history,
            counters=NotifyCounters(
                published=self.metrics.notified("published"),
                found=self.metrics.notified("found"),
                unreadable=self.metrics.notified("unreadable"),
                refused=self.metrics.notified("refused"),
                retried=self.metrics.notified("retried"),
            ),
            limits=NotifyLimits(publish_seconds=settings.publish_seconds),
            now=now,
        )
        namespaces = configured.namespaces(settings)
        publishing_limits = PublishingLimits(deadline_seconds=settings.publish_seconds)
        self.publisher = ChannelPublisher(
            publisher,
            history,
            recent=self.feed.ring.get,
            limits=publishing_limits,
            on_answered=self.metrics.publish_seconds.observe,
        )
        self.ephemeral = EphemeralFeed(
            bus,
            fan_out=fanout.deliver,
            may_deliver=lambda: self.control.caught_up,
            may_pass=lambda channel: namespaces.why_not_pass_on(channel) is None,
            on_unreadable=self.metrics.unreadable,
            limits=publishing_limits,
        )
        kept_of = configured.kept_of_namespaces(namespaces)
        cache_limits = CacheLimits(max_bytes=settings.recovery_cache_bytes)
        reads = SharedReads(self.feed, history, cache_limits)
        self.pages = Pages(
            self.feed,
            reads,
            history,
            kept_of=kept_of,
            limits=PageLimits(max_count=settings.history_max_page),
        )
        catch_up = partial(CatchUp, self.feed, reads, kept_of=kept_of)
        sessions = SessionKind(
            access=self._access(verifier),
            manager=self.manager,
            namespaces=namespaces,
            catch_up=catch_up(CatchUpLimits(replay_limit=settings.replay_limit)),
            publisher=self.publisher,
            ephemeral=self.ephemeral,
            metrics=self.metrics,
            enter=self.presence.enter,
            leave=self.presence.leave,
            on_hole=tell_hole,
            on_caught_up=self.announcements.tell_who_is_here,
            encodings=Encodings(cache_limits),
        )
        rate_limits = configured.rate_limits(settings)
        self.chat = ChatService(
            sessions=sessions,
            presence=self.presence,
            announcements=self.announcements,
            rate_limits=rate_limits,
            settings=settings,
        )
        self.cluster = Cluster(
            bus,
            leases=lambda: self.presence.live_leases,
            own_lease=lambda: self.presence.node,
        )
        self.proxies = configured.proxies(settings, bus, self.metrics)
        in_one_reply = CatchUpLimits(
            replay_limit=settings.recovery_max_publication_limit,
            reply_bytes=settings.recovery_max_bytes,
        )
        self.centrifuge = CentrifugeService(
            replace(sessions, catch_up=catch_up(in_one_reply)),
            presence=self.presence,
            pages=self.pages,
            cluster=self.cluster,
            proxies=self.proxies,
            before=self.feed.ring.before,
            rate_limits=rate_limits,
            ephemeral_limits=configured.ephemeral_limits(settings),
            ephemeral_buckets=configured.ephemeral_buckets(settings),
            ping_seconds=settings.ping_seconds,
            connect_seconds=settings.auth_seconds,
            max_waiting_commands=settings.max_waiting_commands,
            channel_limit=settings.channel_limit,
            history_limit=settings.history_max_publication_limit,
            allows_anonymous=(
                settings.allow_anonymous_connect_without_token or settings.client_insecure
            ),
        )
        bus.on_connected(self.publisher.bus_came_back)
        Orders(self.centrifuge)
        self.api = Api(
            Publishing(
                self.publisher,
                self.ephemeral,
                namespaces=namespaces,
                epoch=lambda: self.feed.epoch,
            ).methods,
            Reading(namespaces=namespaces, presence=self.presence, pages=self.pages).methods,
            Ordering(self.cluster, namespaces=namespaces).methods,
            Surveying(self.cluster, self.manager).methods,
        )
        self._observe()

    def _access(self, verifier: TokenVerifier) -> Access:
        settings = self.settings
        return Access(
            authenticator=Authenticator(
                verifier, self._revocations, knows_revocations=self._knows_revocations
            ),
            occupancy=Occupancy(
                max_connections=connection_limit(
                    settings.max_connections, sockets=settings.peer_limits.max_sockets
                ),
                max_per_address=settings.max_connections_per_address,
            ),
            user_limit=UserLimit(
                settings.max_connections_per_user,
                here=lambda user_id: len(self.manager.connections_of(user_id)),
                elsewhere=self.presence.connections_elsewhere,
            ),
            buckets=configured.buckets(settings),
            not_ready=Readiness(self.not_ready, self.hub.shared.loop.call_soon).not_ready,
        )

    def not_ready(self) -> list[str]:
        """Why nobody can be let in now, in the operator's words."""
        reasons: list[str] = []
        if self._draining:
            reasons.append("draining")
        if not self._bus.connected:
            reasons.append("the bus is not connected")
        if not self._verifier.ready:
            reasons.append("the keys to check tokens with are not known yet")
        if not self.control.caught_up:
            reasons.append("the revocations are not read up to their end")
        elif not self._are_complete():
            reasons.append("the auth service has yet to say which sessions are over")
        elif not self._has_reached_auth_service():
            reasons.append(
                "the auth service has yet to compare the bus with its database: it may have been"
                " restored from a backup"
            )
        reasons += trouble_with_clock(
            self.control.clock_ahead_seconds, at_most=self.settings.max_clock_offset_seconds
        )
        if not self.feed.caught_up:
            reasons.append("the publications are not read up to their end")
        if not self.presence.caught_up:
            reasons.append("who is present is not known")
        if not self.presence.lease_in_force:
            reasons.append("the bus does not take this gateway's lease")
        if self.publisher.stuck:
            reasons.append("the bus does not store publications")
        return reasons + self._supervisor.not_ready()

    @property
    def loops(self) -> tuple[Loop, ...]:
        return (
            Loop("control", self.control.run),
            Loop("feed", self._follow),
            *self.presence.loops,
            Loop("crowds", self.announcements.run, is_vital=False),
            Loop("notify", self.notifier.run, is_vital=False),
            Loop("sweep", self.hub.run),
            Loop("clock", self.clock_watch.run),
        )

    def _knows_revocations(self) -> bool:
        return self._are_complete() and self._has_reached_auth_service()

    def _are_complete(self) -> bool:
        return self.control.caught_up and (
            not self._awaits_auth_service or self._revocations.are_complete(self.control.epoch)
        )

    def _has_reached_auth_service(self) -> bool:
        """Once is enough: the bus of this process can be restored only while it is down."""
        if not self._was_complete and self._awaits_auth_service:
            position = None if self._complete_at is None else self._complete_at()
            self._was_complete = position is not None and position.is_reached(
                epoch=self.control.epoch, position=self.control.position
            )
        return self._was_complete or not self._awaits_auth_service

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run())
            group.create_task(refill(self.feed, StreamReader(self._bus, "RT")))

    async def drain(self) -> None:
        self._draining = True
        await self.hub.drain()
        await self.presence.release_lease()

    def _end_with_tokens(self) -> None:
        """Let all who are open end with their tokens, by the clock as it is now."""
        for_each(self.manager.connections(), lambda member: member.end_with_token())
        self.centrifuge.end_with_tokens()

    def _observe(self) -> None:
        self.metrics.observe(
            connections=lambda: len(self.hub),
            users=self.manager.active_user_count,
            channels=lambda: len(self.manager.channels()),
        )
        self.metrics.observe_lag("RT", lambda: self.feed.lag)
        self.metrics.observe_lag("CTL", lambda: self.control.lag)
        self.metrics.observe_lag("PRES", lambda: self.presence.lag)


@asynccontextmanager
async def serving(
    settings: GatewaySettings,
    *,
    bus: Bus,
    publisher: Publisher,
    verifier: TokenVerifier,
    registry: CollectorRegistry,
    supervisor: Supervisor | None = None,
    complete_at: Callable[[], CompletePosition | None] | None = None,
    now: Clock = our_clock,
) -> AsyncGenerator[GatewayParts]:
    """The gateway with its background loops; it starts whether or not the bus is there.

    ``supervisor`` is the process's, if it has other loops too. ``now`` is the clock that is
    compared with the bus's. ``complete_at`` is of an auth service in the same process: what the bus
    says of the revocations may come from a backup, so nobody is let in before that service looked.
    """
    supervisor = supervisor or Supervisor(registry)
    if settings.client_insecure:
        log.warning("permissions_are_off", setting="HUBBUB_GATEWAY_CLIENT_INSECURE")
    async with start_publisher(bus) as presence_publisher:
        gateway = Gateway(
            settings,
            bus=bus,
            publisher=publisher,
            presence_publisher=presence_publisher,
            verifier=verifier,
            registry=registry,
            supervisor=supervisor,
            complete_at=complete_at,
            now=now,
        )
        async with (
            gateway.hub.working(),
            gateway.cluster.listening(),
            gateway.ephemeral.listening(),
            gateway.proxies.running(),
            supervisor.running(*gateway.loops),
        ):
            origins = settings.origins()
            yield GatewayParts(
                add_routes=partial(add_api, api=gateway.api, api_key=settings.api_key),
                ready=gateway.not_ready,
                drain=gateway.drain,
                server_options=websocket_options(
                    gateway.hub,
                    {
                        "/ws/chat": partial(chat_endpoint, gateway.chat),
                        "/ws/notifications": partial(chat_endpoint, gateway.chat, has_room=False),
                        **websocket_endpoints(gateway.centrifuge),
                    },
                    http_endpoints(gateway.centrifuge),
                    api_shortcuts(gateway.api, api_key=settings.api_key),
                    origins=origins,
                    compresses=settings.websocket_compression,
                ),
                manager=gateway.manager,
                origins=origins,
            )


def create_app(
    parts: GatewayParts, *, registry: CollectorRegistry, siblings: Siblings | None = None
) -> FastAPI:
    """The gateway as a process of its own serves it; with siblings it tells their metrics too."""
    app = Application(
        "Hubbub: gateway",
        origins=parts.origins,
        messages=partial(asyncapi_document, "Hubbub: gateway", CHANNELS),
    )
    parts.add_routes(app)
    metrics = None if siblings is None else siblings.metrics
    add_operations(app, registry=registry, ready=parts.ready, metrics=metrics)
    return app
