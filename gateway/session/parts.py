"""What the sessions of one gateway share."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.channels.namespaces import Namespaces
from gateway.channels.registry import ConnectionManager
from gateway.metrics import GatewayMetrics
from gateway.presence.presence import Presence
from gateway.session.capacity import Occupancy, UserLimit
from gateway.session.rate import RateLimits
from gateway.session.roster import Roster
from gateway.settings import GatewaySettings
from gateway.streams.catch_up import CatchUp
from gateway.streams.feed import Feed
from gateway.streams.publishing import ChannelPublisher
from shared.contracts.errors import Unavailable
from shared.tokens.access_tokens import Claims, InvalidToken, TokenVerifier
from shared.tokens.revocations import Revocations
from shared.web.user_rates import UserRates


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Who may be here: asked when a connection begins, and when it shows a new token."""

    verifier: TokenVerifier
    revocations: Revocations
    knows_revocations: Callable[[], bool]
    """Whether all that were stored have reached us; who isn't sure lets nobody do anything."""

    def verify_at_once(self, token: str) -> Claims | None:
        """Check a token; None if its issuer has to be asked for that.

        Who makes use of the claims in this same step needs no `confirm`.

        Raises:
            InvalidToken, Unavailable: as `verify` says.
        """
        claims = self.verifier.verify_at_once(token)
        if claims is not None:
            self._look_for_end(token, claims)
        return claims

    async def verify(self, token: str) -> Claims:
        """Check a token; what can change with time has to be confirmed afterwards.

        Raises:
            InvalidToken: for whatever is wrong with it.
            Unavailable: it can't be judged now.
        """
        claims = await self.verifier.verify(token)
        self._look_for_end(token, claims)
        return claims

    def confirm(self, claims: Claims) -> None:
        """Ask anew for expiry, trust and revocation; in the step that makes use of the claims.

        Raises:
            InvalidToken: one of them is over.
            Unavailable: it isn't known whether they were revoked.
        """
        self.verifier.confirm(claims)
        if self._is_revoked(claims):
            raise InvalidToken("the session is over")

    def _look_for_end(self, token: str, claims: Claims) -> None:
        if self._is_revoked(claims):
            self.verifier.forget(token)
            raise InvalidToken("the session is over")

    def _is_revoked(self, claims: Claims) -> bool:
        if not self.knows_revocations():
            raise Unavailable("what was revoked lately is not known now")
        return self.revocations.is_revoked(claims)


@dataclass(frozen=True, slots=True)
class ChatParts:
    """Made once, by whoever composes the gateway."""

    guard: Authenticator
    manager: ConnectionManager
    namespaces: Namespaces
    presence: Presence
    roster: Roster
    feed: Feed
    catch_up: CatchUp
    publisher: ChannelPublisher
    metrics: GatewayMetrics
    occupancy: Occupancy
    user_limit: UserLimit
    rate_limits: RateLimits
    user_rates: UserRates
    settings: GatewaySettings
    not_ready: Callable[[], list[str]]
    """What stands in the way of serving; empty when nothing does."""
