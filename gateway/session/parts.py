"""What the sessions of one gateway share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.channels.manager import ConnectionManager
from gateway.channels.namespaces import Namespaces
from gateway.metrics import GatewayMetrics
from gateway.presence.presence import Presence
from gateway.settings import GatewaySettings
from gateway.streams.catch_up import CatchUp
from gateway.streams.feed import Feed
from shared.ids import ChannelName
from shared.publications import Sender
from shared.revocations import Revocations
from shared.tokens import Claims, InvalidToken, TokenVerifier


class PublishAsUser(Protocol):
    """Stores what a user says in a channel."""

    async def __call__(
        self, channel: ChannelName, sender: Sender, body: str, *, client_id: str | None
    ) -> int:
        """Return its offset; with the same id the same user's words are stored once.

        Raises:
            IdReused: other words were stored under this id.
            Unavailable: unknown whether it is stored; try again with the same id.
        """


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
    publish: PublishAsUser
    metrics: GatewayMetrics
    settings: GatewaySettings
    not_ready: Callable[[], list[str]]
    """What stands in the way of serving; empty when nothing does."""
