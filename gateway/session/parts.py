"""What the sessions of one gateway share."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.channels.manager import ConnectionManager
from gateway.channels.namespaces import Namespaces
from gateway.metrics import GatewayMetrics
from gateway.presence.presence import Presence
from gateway.settings import GatewaySettings
from gateway.streams.catch_up import CatchUp
from gateway.streams.feed import Feed
from gateway.streams.publishing import ChannelPublisher
from shared.revocations import Revocations
from shared.tokens import Claims, InvalidToken, TokenVerifier


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may be here: asked when a connection begins, and when it shows a new token."""

    verifier: TokenVerifier
    revocations: Revocations

    async def verify(self, token: str) -> Claims:
        """Check a token; what can change with time has to be confirmed afterwards.

        Raises:
            InvalidToken: for whatever is wrong with it.
            Unavailable: it can't be judged now.
        """
        return await self.verifier.verify(token)

    def confirm(self, claims: Claims) -> None:
        """Ask anew for expiry, trust and revocation; in the step that makes use of the claims.

        Raises:
            InvalidToken: one of them is over.
        """
        self.verifier.confirm(claims)
        if self.revocations.is_revoked(claims):
            raise InvalidToken("the session is over")


@dataclass(frozen=True, slots=True)
class ChatParts:
    """Made once, by whoever composes the gateway."""

    guard: Guard
    manager: ConnectionManager
    namespaces: Namespaces
    presence: Presence
    feed: Feed
    catch_up: CatchUp
    publisher: ChannelPublisher
    metrics: GatewayMetrics
    settings: GatewaySettings
    not_ready: Callable[[], list[str]]
    """What stands in the way of serving; empty when nothing does."""
