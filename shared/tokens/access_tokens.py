"""Access tokens: who somebody is, if a key that we trust says so."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from hubbub_client.jetstream.clock import Clock, our_clock
from shared.tokens.claims import Claims, Subscriber, SubscriptionClaims
from shared.tokens.errors import (
    GrantExpired,
    InvalidToken,
    KeysUnknown,
    TokenExpired,
    TokenMismatch,
)
from shared.tokens.issuers import Issuer, read_values
from shared.tokens.remembered import RememberedTokens
from shared.tokens.signatures import CALLED_OTHERWISE, BadSignature, Header, read_token

MAX_TOKEN_BYTES = 8 * 1024

_COMPACT_JWS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class _Read(NamedTuple):
    """A token that says whose it is; whether that is true was not checked."""

    issuer: Issuer
    algorithm: str
    header: Header
    values: Mapping[str, Any]


class TokenVerifier:
    """Says who a token stands for, or refuses.

    A token names its issuer, and is checked with the keys of that issuer alone, and only with
    such as are for its algorithm: it can't have a public key taken for a secret.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        remembered_tokens: int = 0,
        now: Clock = our_clock,
    ) -> None:
        """Nothing is fetched here.

        Raises:
            ValueError: two issuers would take the same tokens.
        """
        self._now = now
        self._remembered: RememberedTokens[Claims | SubscriptionClaims] = RememberedTokens(
            remembered_tokens
        )
        self._issuers = {issuer.id: issuer for issuer in issuers}
        self._names = {issuer.rules.name for issuer in issuers}
        self._by_algorithm: dict[str, dict[str | None, Issuer]] = {}
        for issuer in issuers:
            for algorithm in issuer.rules.algorithms:
                named = self._by_algorithm.setdefault(algorithm, {})
                if named.setdefault(issuer.rules.name, issuer) is not issuer:
                    raise ValueError(f"two issuers of one name sign with {algorithm}")

    @property
    def ready(self) -> bool:
        """Whether there is at least one way to check a token."""
        return any(issuer.keys.known for issuer in self._issuers.values())

    @property
    def remembered(self) -> int:
        """How many tokens need no verifying, should they come again."""
        return len(self._remembered)

    def forget(self, token: str) -> None:
        """Verify it in full, should it come again."""
        self._remembered.drop(token)

    async def verify(self, token: str, *, allow_anonymous: bool = False) -> Claims:
        """Check a connection's token, unless that was done before and still holds.

        Args:
            allow_anonymous: Whether it may be of nobody in particular, whose user id is empty.

        Raises:
            InvalidToken: for whatever is wrong with it; such as `TokenExpired`.
            KeysUnknown: its issuer's keys were never seen; later it may be fine.
        """
        claims = self.verify_at_once(token, allow_anonymous=allow_anonymous)
        if claims is None:
            await self._look_again(token)
            claims = self.verify_at_once(token, allow_anonymous=allow_anonymous)
        if claims is None:
            raise _unknown_key()
        return claims

    def verify_at_once(self, token: str, *, allow_anonymous: bool = False) -> Claims | None:
        """What `verify` says, or None if its issuer has to be asked for another key first.

        Raises:
            InvalidToken, KeysUnknown: as `verify` says.
        """
        claims = self.recall(token) or self._check(token)
        if claims is None:
            return None
        if isinstance(claims, SubscriptionClaims):
            raise InvalidToken("the token is for a subscription, not for a connection")
        if not claims.user_id and not allow_anonymous:
            raise InvalidToken("the token names no user")
        return claims

    async def verify_subscription(self, token: str, subscriber: Subscriber) -> SubscriptionClaims:
        """Check a token that is for one subscription of one user.

        Raises:
            InvalidToken: for whatever is wrong with it; such as `TokenExpired`, or
                `TokenMismatch` where it is of another user, connection or channel.
            KeysUnknown: its issuer's keys were never seen; later it may be fine.
        """
        claims = self.verify_subscription_at_once(token, subscriber)
        if claims is None:
            await self._look_again(token)
            claims = self.verify_subscription_at_once(token, subscriber)
        if claims is None:
            raise _unknown_key()
        return claims

    def verify_subscription_at_once(
        self, token: str, subscriber: Subscriber
    ) -> SubscriptionClaims | None:
        """What `verify_subscription` says, or None if its issuer has to be asked first.

        Raises:
            InvalidToken, KeysUnknown: as `verify_subscription` says.
        """
        claims = self.recall(token) or self._check(token)
        if claims is None:
            return None
        if isinstance(claims, Claims):
            raise InvalidToken("the token is for a connection, not for a subscription")
        if claims.user_id != subscriber.user_id:
            raise TokenMismatch("the subscription token is of another user")
        if claims.client_id not in (None, subscriber.client_id):
            raise TokenMismatch("the subscription token is of another connection")
        if subscriber.channel not in (None, claims.channel):
            raise TokenMismatch("the subscription token is for another channel")
        return claims

    async def judge(self, token: str) -> Claims | SubscriptionClaims:
        """Check a token of either kind, of whomever, and wait for its issuer's first keys too.

        Raises:
            InvalidToken, KeysUnknown: as `verify` says.
        """
        with suppress(KeysUnknown):
            claims = self.recall(token) or self._check(token)
            if claims is not None:
                return claims
        await self._look_again(token)
        keys = self._read(token).issuer.keys
        if not keys.known:
            raise KeysUnknown(f"the keys of the token's issuer are not known: {keys.trouble}")
        claims = self._check(token)
        if claims is None:
            raise _unknown_key()
        return claims

    async def _look_again(self, token: str) -> None:
        """Ask the token's issuer for its keys anew, unless that was done a moment ago."""
        await self._read(token).issuer.keys.look_again()

    def confirm(self, claims: Claims | SubscriptionClaims, *, grace_seconds: float = 0.0) -> None:
        """Ask again what changes with time: the end, and whether we trust the key still.

        Args:
            grace_seconds: For how long they hold past their end.

        Raises:
            InvalidToken: one of them is over.
        """
        if not self._trusts(claims):
            raise InvalidToken("the token's key is not trusted")
        _check_end(claims, self._now() - grace_seconds)

    def recall(self, token: str) -> Claims | SubscriptionClaims | None:
        """The claims of a token that was verified before, if they hold now; else verify it.

        A signature costs up to a tenth of a millisecond, this a few microseconds. Only the
        claims are remembered: what can change in the meantime is asked anew, and what has
        changed is forgotten.
        """
        if len(token) > MAX_TOKEN_BYTES:
            return None
        claims = self._remembered.get(token)
        if claims is None:
            return None
        now = self._now()
        issuer = self._issuers.get(claims.issuer)
        if (
            issuer is not None
            and issuer.keys.trusts(claims.key)
            and claims.token_expires_at > now
            and claims.expires_at > now
        ):
            return claims
        self._remembered.drop(token)
        return None

    def _trusts(self, claims: Claims | SubscriptionClaims) -> bool:
        issuer = self._issuers.get(claims.issuer)
        return issuer is not None and issuer.keys.trusts(claims.key)

    def _check(self, token: str) -> Claims | SubscriptionClaims | None:
        issuer, algorithm, header, values = self._read(token)
        key = issuer.key_of(token, header, algorithm)
        if key is None:
            return None
        now = self._now()
        claims = issuer.read(values, key, now)
        _check_end(claims, now)
        self._remembered.put(token, claims)
        return claims

    def _read(self, token: str) -> _Read:
        """Read whose token it is, by its own word."""
        if len(token) > MAX_TOKEN_BYTES or not _COMPACT_JWS.fullmatch(token):
            raise InvalidToken("the token is not a signed JWT")
        try:
            header, payload = read_token(token)
        except BadSignature:
            raise InvalidToken("the token is not a signed JWT") from None
        algorithm = header.algorithm
        if not isinstance(algorithm, str):
            raise InvalidToken("the token's algorithm is not accepted here")
        algorithm = CALLED_OTHERWISE.get(algorithm, algorithm)
        of_algorithm = self._by_algorithm.get(algorithm)
        if of_algorithm is None:
            raise InvalidToken("the token's algorithm is not accepted here")
        values = read_values(payload)
        name = values.get("iss")
        issuer = of_algorithm.get(name) if isinstance(name, str) else None
        issuer = issuer or of_algorithm.get(None)
        if issuer is not None:
            return _Read(issuer, algorithm, header, values)
        if name is None:
            raise InvalidToken("the token names no issuer (`iss`)")
        if isinstance(name, str) and name in self._names:
            raise InvalidToken("the token's algorithm is not accepted of its issuer")
        raise InvalidToken("the token is of an issuer that is not trusted here")


def _check_end(claims: Claims | SubscriptionClaims, now: float) -> None:
    if claims.expires_at > now:
        return
    if claims.token_expires_at > now:
        raise GrantExpired(f"what the token grants expired {now - claims.expires_at:.0f} s ago")
    raise TokenExpired(f"the token expired {now - claims.token_expires_at:.0f} s ago")


def _unknown_key() -> InvalidToken:
    return InvalidToken("the token's key is not one of its issuer's")
