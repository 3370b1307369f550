"""What all clients of the protocol on one gateway share."""

import asyncio
import math
from dataclasses import dataclass, fields, replace
from importlib.metadata import version

from gateway.channels.namespaces import Namespaces
from gateway.channels.registry import ConnectionManager, Subscription
from gateway.metrics import GatewayMetrics
from gateway.protocols.centrifuge import codes
from gateway.protocols.centrifuge.codec import Codec, json_of
from gateway.protocols.centrifuge.formats import Before, Formats
from gateway.session.access import Access
from gateway.session.rate import RateLimits
from gateway.session.session import Session, SessionKind
from gateway.streams.catch_up import CatchUp
from gateway.streams.feed import Reason
from shared.contracts.ids import ANONYMOUS
from shared.jetstream.clock import our_clock
from shared.tokens.claims import NEVER, Claims, Grant

EXPIRY_GRACE_SECONDS = 25.0
"""From the end of a token to what follows: the SDKs refresh only as it ends."""


@dataclass(slots=True)
class Details:
    """What else is remembered of a subscription that a token granted, or the server made."""

    grant: Grant
    is_server_side: bool = False
    expiry: asyncio.TimerHandle | None = None


_NOTHING = Details(Grant())
SERVER_SIDE = Details(Grant(), is_server_side=True)


def details_of(subscription: Subscription | None) -> Details:
    """Of most there is nothing to remember."""
    known = subscription.details if subscription is not None else None
    return known if isinstance(known, Details) else _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class CentrifugeKind(SessionKind):
    """Of the sessions on one kind of transport."""

    codec: Codec
    formats: Formats


class CentrifugeService:
    """Made once, by whoever composes the gateway."""

    def __init__(
        self,
        sessions: SessionKind,
        *,
        before: Before,
        rate_limits: RateLimits,
        ping_seconds: float,
        connect_seconds: float,
        max_waiting_commands: int,
        channel_limit: int,
        allows_anonymous: bool,
    ) -> None:
        """
        Args:
            sessions: What they have in common with those of other protocols.
            before: What was published in a channel before an offset, if it is in memory.
            ping_seconds: Between two pings, as clients are told.
            connect_seconds: For the first command to come.
            channel_limit: Of one connection.
            allows_anonymous: Whether a connection needs no token.
        """
        self.access: Access = sessions.access
        self.namespaces: Namespaces = sessions.namespaces
        self.catch_up: CatchUp = sessions.catch_up
        self.metrics: GatewayMetrics = sessions.metrics
        self.manager: ConnectionManager = sessions.manager
        self.rate_limits = rate_limits
        self.ping_seconds = math.ceil(ping_seconds)
        self.connect_seconds = connect_seconds
        self.max_waiting_commands = max_waiting_commands
        self.channel_limit = channel_limit
        self.allows_anonymous = allows_anonymous
        self.version = version("hubbub")
        self._before = before
        self._sessions = replace(
            sessions,
            on_hole=_end_for_a_hole,
            on_caught_up=lambda _session, _subscriptions: None,
            expiry_grace_seconds=EXPIRY_GRACE_SECONDS,
        )
        self._kinds: dict[Codec, CentrifugeKind] = {}

    def kind_of(self, codec: Codec) -> CentrifugeKind:
        kind = self._kinds.get(codec)
        if kind is None:
            shared = {each.name: getattr(self._sessions, each.name) for each in fields(SessionKind)}
            formats = Formats(
                codec,
                self._sessions.manager,
                before=self._before,
                soon=asyncio.get_running_loop().call_soon,
            )
            kind = self._kinds[codec] = CentrifugeKind(**shared, codec=codec, formats=formats)
        return kind

    def anonymous_claims(self) -> Claims:
        return Claims(ANONYMOUS, "", None, issued_at=None, expires_at=NEVER)

    # Subscriptions that end.

    def remember(self, subscription: Subscription, grant: Grant, expires_at: float) -> None:
        """Keep what a token says of a subscription, and end it some time after the token."""
        self.forget(subscription)
        if grant == Grant() and expires_at == NEVER:
            return
        details = Details(grant, is_server_side=details_of(subscription).is_server_side)
        subscription.details = details
        if expires_at < NEVER:
            seconds = expires_at - our_clock() + EXPIRY_GRACE_SECONDS
            loop = asyncio.get_running_loop()
            details.expiry = loop.call_later(seconds, self._expire, subscription)

    def forget(self, subscription: Subscription) -> None:
        """It ends, or another token counts from now on."""
        expiry = details_of(subscription).expiry
        if expiry is not None:
            expiry.cancel()

    def _expire(self, subscription: Subscription) -> None:
        session = subscription.member
        assert isinstance(session, Session)
        if details_of(subscription).is_server_side:
            session.connection.close(codes.SUBSCRIPTION_EXPIRED)
        else:
            self.unsubscribe(session, subscription, codes.SUBSCRIPTION_OVER)

    def unsubscribe(
        self, session: Session, subscription: Subscription, why: codes.Unsubscribe
    ) -> None:
        """End a subscription, and tell the client."""
        assert isinstance(session.kind, CentrifugeKind)
        self.forget(subscription)
        session.unsubscribe(subscription)
        body = b'{"code":%d,"reason":%b}' % (why.code, json_of(why.reason))
        session.connection.send(session.kind.codec.push(subscription.channel, b"unsubscribe", body))


def _end_for_a_hole(session: Session, _reason: Reason) -> None:
    """The client comes back, asks for what it misses, and is told what can't be had."""
    session.connection.close(codes.INSUFFICIENT_STATE)
