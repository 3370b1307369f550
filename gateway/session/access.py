"""Who may come in: with which token, how many at a time, and how fast."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import structlog

from gateway.channels.connection import Connection
from gateway.channels.registry import Member
from gateway.errors import EndReason, MayNotSubscribe, TooManyConnections
from gateway.session.buckets import Buckets
from gateway.session.refusals import RefusalLog
from hubbub_client.contracts.errors import AppError, Unavailable
from hubbub_client.contracts.ids import ANONYMOUS, UserId
from hubbub_client.jetstream.clock import our_clock
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.claims import Claims, Subscriber, SubscriptionClaims
from shared.tokens.errors import InvalidToken, TokenExpired
from shared.tokens.revocations import Revocations
from shared.web.addresses import network_of
from shared.web.user_rates import TooFast

log = structlog.get_logger(__name__)

_SHARE_OF_SOCKETS = 0.9
"""The others are for HTTP, and for connections that are being closed."""

_END_REASONS: dict[type, EndReason] = {
    InvalidToken: EndReason.INVALID_TOKEN,
    MayNotSubscribe: EndReason.INVALID_CHANNEL,
    TooManyConnections: EndReason.TOO_MANY_OF_USER,
    TooFast: EndReason.RATE_LIMIT,
}


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Who may be here: asked when a connection begins, and when it shows a new token."""

    verifier: TokenVerifier
    revocations: Revocations
    knows_revocations: Callable[[], bool]
    """Whether every stored revocation is known here; if not, nobody may do anything."""
    refusals: RefusalLog = field(default_factory=RefusalLog)

    def verify_at_once(self, token: str, *, allow_anonymous: bool = False) -> Claims | None:
        """Check a token; None if its issuer has to be asked for that.

        Claims that are used in this same step need no `confirm`.

        Raises:
            InvalidToken, Unavailable: as `verify` says.
        """
        with self.refusals:
            claims = self.verifier.verify_at_once(token, allow_anonymous=allow_anonymous)
            if claims is not None:
                self._look_for_end(token, claims)
            return claims

    async def verify(self, token: str, *, allow_anonymous: bool = False) -> Claims:
        """Check a token; what can change with time has to be confirmed afterwards.

        Raises:
            InvalidToken: for whatever is wrong with it; such as `TokenExpired`.
            Unavailable: it can't be judged now.
        """
        with self.refusals:
            claims = await self.verifier.verify(token, allow_anonymous=allow_anonymous)
            self._look_for_end(token, claims)
            return claims

    def verify_subscription_at_once(
        self, token: str, subscriber: Subscriber
    ) -> SubscriptionClaims | None:
        """Check a subscription's token; None if its issuer has to be asked for that.

        Raises:
            InvalidToken, Unavailable: as `verify_subscription` says.
        """
        with self.refusals:
            claims = self.verifier.verify_subscription_at_once(token, subscriber)
            if claims is not None:
                self._look_for_end(token, claims)
            return claims

    async def verify_subscription(self, token: str, subscriber: Subscriber) -> SubscriptionClaims:
        """Check a subscription's token; see `TokenVerifier.verify_subscription`.

        Raises:
            InvalidToken: for whatever is wrong with it; such as `TokenExpired`, `TokenMismatch`.
            Unavailable: it can't be judged now.
        """
        with self.refusals:
            claims = await self.verifier.verify_subscription(token, subscriber)
            self._look_for_end(token, claims)
            return claims

    def confirm(self, claims: Claims | SubscriptionClaims, *, grace_seconds: float = 0.0) -> None:
        """Ask anew for expiry, trust and revocation; in the step that makes use of the claims.

        Args:
            grace_seconds: For how long they hold past their end.

        Raises:
            InvalidToken: one of them is over.
            Unavailable: it isn't known whether they were revoked.
        """
        if isinstance(claims, SubscriptionClaims) or claims.is_of_token:
            self.verifier.confirm(claims, grace_seconds=grace_seconds)
        elif claims.expires_at + grace_seconds <= our_clock():
            raise TokenExpired("what the application said of the connection is over")
        if self._is_revoked(claims):
            raise InvalidToken("the session is over")

    def _look_for_end(self, token: str, claims: Claims | SubscriptionClaims) -> None:
        if self._is_revoked(claims):
            self.verifier.forget(token)
            raise InvalidToken("the session is over")

    def _is_revoked(self, claims: Claims | SubscriptionClaims) -> bool:
        if not self.knows_revocations():
            raise Unavailable("what was revoked lately is not known now")
        return self.revocations.is_revoked(claims)


class Occupancy:
    """The connections of this process from their handshake on, so before they show a token too.

    The connections themselves are the count: none is counted twice, or out twice.
    """

    def __init__(self, *, max_connections: int, max_per_address: int) -> None:
        """0 is no limit."""
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._here: dict[Hashable, str | None] = {}
        self._from_address: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._here)

    def enter(self, connection: Hashable, address: str | None) -> EndReason | None:
        """Count the connection, or say why there is no room for it."""
        if connection in self._here:
            return None
        if 0 < self._max_connections <= len(self._here):
            return EndReason.FULL
        name = None
        if self._max_per_address and address:
            name = network_of(address) or address
        if name is not None:
            count = self._from_address.get(name, 0)
            if count >= self._max_per_address:
                return EndReason.TOO_MANY_OF_ADDRESS
            self._from_address[name] = count + 1
        self._here[connection] = name
        return None

    def leave(self, connection: Hashable) -> None:
        """The connection is gone; harmless for one that isn't counted."""
        name = self._here.pop(connection, None)
        if name is None:
            return
        count = self._from_address[name] - 1
        if count:
            self._from_address[name] = count
        else:  # else one entry would stay for every address ever seen
            del self._from_address[name]


class UserLimit:
    """How many connections one user may have, on all gateways."""

    def __init__(
        self,
        max_connections: int,
        *,
        here: Callable[[UserId], int],
        elsewhere: Callable[[UserId], int],
    ) -> None:
        """
        Args:
            max_connections: 0 is no limit.
            here: The connections of a user on this gateway.
            elsewhere: On the others, as far as they have told.
        """
        self._max_connections = max_connections
        self._here = here
        self._elsewhere = elsewhere

    def is_reached(self, user_id: UserId) -> bool:
        most = self._max_connections
        if not most or user_id == ANONYMOUS:  # who is anybody
            return False
        here = self._here(user_id)
        return here >= most or here + self._elsewhere(user_id) >= most


@dataclass(frozen=True, slots=True)
class Access:
    """The door of one gateway, for all protocols."""

    authenticator: Authenticator
    occupancy: Occupancy
    user_limit: UserLimit
    buckets: Buckets
    not_ready: Callable[[], list[str]]
    """What stands in the way of serving; empty when nothing does."""

    def sign_in(
        self,
        token: str,
        connection: Connection,
        *,
        admit: Callable[[Claims], None],
        refuse: Callable[[AppError], None],
        allow_anonymous: bool = False,
    ) -> None:
        """Check a token: at once, or when its issuer was asked for keys.

        The caller has seen in this turn of the loop that the gateway is ready. What was revoked is
        looked up in this step.

        Args:
            admit: Gets the claims, in the step in which they were found to hold. May refuse them
                by an `AppError`.
            refuse: Gets the error, if the token or the claims are refused.
            allow_anonymous: Whether the token may be of nobody in particular.
        """
        try:
            claims = self.authenticator.verify_at_once(token, allow_anonymous=allow_anonymous)
            if claims is not None:
                admit(claims)
                return
        except AppError as error:
            refuse(error)
            return
        connection.start(self._sign_in_later(token, connection, admit, refuse, allow_anonymous))

    async def _sign_in_later(
        self,
        token: str,
        connection: Connection,
        admit: Callable[[Claims], None],
        refuse: Callable[[AppError], None],
        allow_anonymous: bool,
    ) -> None:
        try:
            claims = await self.authenticator.verify(token, allow_anonymous=allow_anonymous)
            if not connection.is_open:
                return
            if self.not_ready():  # such as: what was revoked may not have reached us
                raise Unavailable("not ready")
            self.authenticator.confirm(claims)
            admit(claims)
        except AppError as error:
            refuse(error)

    def admit_one_more(self, member: Member, units: int) -> None:
        """Let its user have one connection more, and pay for it.

        Raises:
            TooManyConnections: the user has enough.
            TooFast: the user has to wait.
        """
        if self.user_limit.is_reached(member.user_id):
            raise TooManyConnections(f"user {member.user_id} has enough")
        self.buckets.charge(member, units)


def end_reason(error: AppError) -> EndReason:
    """Why to end a connection that is refused; `NOT_READY` if the client may try again."""
    for kind in type(error).__mro__:
        if kind in _END_REASONS:
            return _END_REASONS[kind]
    return EndReason.NOT_READY


def connection_limit(wanted: int, *, sockets: int | None) -> int:
    """How many connections to let in.

    Args:
        wanted: As the operator says; 0 for as many as there can be.
        sockets: That the process may accept, see `shared.web.peers`; None for any number.

    Returns:
        0 for any number.
    """
    if sockets is None:
        return wanted
    possible = int(sockets * _SHARE_OF_SOCKETS)
    if wanted > possible:
        log.warning("too_few_open_files", sockets=sockets, connections=possible, wanted=wanted)
    return min(wanted or possible, possible)
