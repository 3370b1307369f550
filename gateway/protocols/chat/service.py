"""What all tabs of `/ws/chat` on one gateway share."""

from collections.abc import Collection
from dataclasses import dataclass

from gateway.channels.registry import Subscription
from gateway.presence.presence import Presence
from gateway.protocols.chat.announcements import Announcements
from gateway.protocols.chat.codec import encode
from gateway.protocols.chat.frames import Reset
from gateway.session.rate import RateLimits
from gateway.session.session import Session, SessionKind
from gateway.settings import GatewaySettings
from gateway.streams.feed import Reason


@dataclass(frozen=True, slots=True)
class ChatService:
    """Made once, by whoever composes the gateway."""

    sessions: SessionKind
    presence: Presence
    announcements: Announcements
    rate_limits: RateLimits
    settings: GatewaySettings


def tell_hole(session: Session, _subscriptions: Collection[Subscription], reason: Reason) -> None:
    """A tab is told once: its room and its personal channel miss the same."""
    session.connection.send(encode(Reset(reason=reason)))
