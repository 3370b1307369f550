"""Access tokens: who somebody is, if a key that we trust says so."""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import pydantic_core
import structlog

from shared.contracts.ids import (
    BadUserId,
    SessionId,
    UserId,
    parse_user_id,
)
from shared.runtime.settings import ServiceSettings
from shared.runtime.supervision import Supervisor
from shared.tokens.claims import (
    ANONYMOUS,
    MAX_SESSION_ID_CHARS,
    Subscriber,
    SubscriptionClaims,
    read_channel,
    read_channels,
    read_end,
    read_grant,
    read_raw,
    read_time,
)
from shared.tokens.claims import Claims as Claims
from shared.tokens.claims import shown_name as shown_name
from shared.tokens.errors import GrantExpired, TokenExpired, TokenMismatch
from shared.tokens.errors import InvalidToken as InvalidToken
from shared.tokens.errors import KeysUnknown as KeysUnknown
from shared.tokens.keys import FixedKeys, KeySource, TrustedKey, jwks_keys
from shared.tokens.signatures import (
    BadSignature,
    Header,
    TokenOpener,
    checked_secret,
    eddsa_opener,
    hs256_opener,
    read_header,
)

V = TypeVar("V")

_DIGEST_BYTES = 15  # far more than anybody can find a second token for; with 16 it takes 16 more


class RememberedTokens(Generic[V]):
    """What was found out about the tokens seen last, by their digests: never the tokens.

    About 0.15 KiB each, and what was found out. What is given back was true when it was put
    in; whether it still is has to be asked.
    """

    def __init__(self, capacity: int) -> None:
        """Of more than ``capacity`` the one goes that was not seen for longest; 0 keeps none."""
        self._capacity = capacity
        self._found: OrderedDict[bytes, V] = OrderedDict()  # a dict grows slow at its front

    def __len__(self) -> int:
        return len(self._found)

    def get(self, token: str) -> V | None:
        digest = _digest(token)
        found = self._found.get(digest)
        if found is not None:
            self._found.move_to_end(digest)
        return found

    def put(self, token: str, found: V) -> None:
        digest = _digest(token)
        self._found[digest] = found
        self._found.move_to_end(digest)
        if len(self._found) > self._capacity:
            self._found.popitem(last=False)

    def drop(self, token: str) -> None:
        """Forget it; harmless if it isn't there."""
        self._found.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()[:_DIGEST_BYTES]


log = structlog.get_logger(__name__)

MAX_TOKEN_BYTES = 8 * 1024
CLOCK_SKEW_SECONDS = 30.0
"""How far an issuer's clock may be ahead of ours."""

_COMPACT_JWS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_Values = Mapping[str, Any]


class TokenVerifier:
    """Says who a token stands for, or refuses.

    There are two families, and a token can't choose between them: EdDSA is checked
    with the issuer's public keys only, HS256 with the shared secret only.
    """

    def __init__(
        self,
        keys: KeySource | None,
        *,
        issuer: str,
        audience: str,
        hmac_secret: str | None,
        max_token_seconds: float,
        remembered_tokens: int = 0,
        now: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
    ) -> None:
        """Nothing is fetched here.

        Raises:
            ValueError: the HMAC secret is empty, or looks like a public key.
        """
        self._keys = keys
        self._secret = None if hmac_secret is None else checked_secret(hmac_secret)
        self._secret_name = f"hmac:{secrets.token_hex(8)}"  # which tells nothing of it
        self._issuer = issuer
        self._audience = audience
        self._max_token_seconds = max_token_seconds
        self._now = now
        self._remembered: RememberedTokens[Claims | SubscriptionClaims] = RememberedTokens(
            remembered_tokens
        )
        self._eddsa = eddsa_opener()
        self._hs256 = hs256_opener()

    @property
    def ready(self) -> bool:
        """Whether there is at least one way to check a token."""
        return self._secret is not None or (self._keys is not None and self._keys.known)

    @property
    def remembered(self) -> int:
        """How many tokens need no verifying, should they come again."""
        return len(self._remembered)

    def recall(self, token: str) -> Claims | None:
        """The claims of a token that was verified before, if they hold now; else verify it.

        A signature costs up to a tenth of a millisecond, this a few microseconds. Only the
        claims are remembered: what can change in the meantime is asked anew, and what has
        changed is forgotten.
        """
        claims = self._recall(token)
        return claims if isinstance(claims, Claims) else None

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
            await self._look_again()
            claims = self.verify_at_once(token, allow_anonymous=allow_anonymous)
        if claims is None:
            raise InvalidToken("the token's key is not trusted")
        return claims

    def verify_at_once(self, token: str, *, allow_anonymous: bool = False) -> Claims | None:
        """What `verify` says, or None if its issuer has to be asked for another key first.

        Raises:
            InvalidToken, KeysUnknown: as `verify` says.
        """
        claims = self._recall(token)
        if not isinstance(claims, Claims):
            opened = self._open(token)
            if opened is None:
                return None
            claims = self._claims(*opened)
            self._remembered.put(token, claims)
        if not (claims.user_id or allow_anonymous):
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
            await self._look_again()
            claims = self.verify_subscription_at_once(token, subscriber)
        if claims is None:
            raise InvalidToken("the token's key is not trusted")
        return claims

    def verify_subscription_at_once(
        self, token: str, subscriber: Subscriber
    ) -> SubscriptionClaims | None:
        """What `verify_subscription` says, or None if its issuer has to be asked first.

        Raises:
            InvalidToken, KeysUnknown: as `verify_subscription` says.
        """
        claims = self._recall(token)
        if not isinstance(claims, SubscriptionClaims):
            opened = self._open(token)
            if opened is None:
                return None
            claims = self._subscription_claims(*opened)
            self._remembered.put(token, claims)
        if claims.user_id != subscriber.user_id:
            raise TokenMismatch("the subscription token is of another user")
        if claims.client_id not in (None, subscriber.client_id):
            raise TokenMismatch("the subscription token is of another connection")
        if subscriber.channel not in (None, claims.channel):
            raise TokenMismatch("the subscription token is for another channel")
        return claims

    def confirm(self, claims: Claims | SubscriptionClaims) -> None:
        """Ask again what changes with time: the expiry, and whether we trust the key still.

        Raises:
            InvalidToken: one of them is over.
        """
        if not self._trusts(claims.key):
            raise InvalidToken("the token's key is not trusted")
        self._check_end(claims, self._now())

    def _recall(self, token: str) -> Claims | SubscriptionClaims | None:
        if len(token) > MAX_TOKEN_BYTES:
            return None
        claims = self._remembered.get(token)
        if claims is None:
            return None
        now = self._now()
        if now < claims.token_expires_at and now < claims.expires_at and self._trusts(claims.key):
            return claims
        self._remembered.drop(token)
        return None

    async def _look_again(self) -> None:
        if self._keys is not None:
            await self._keys.look_again()

    def _trusts(self, key: str | None) -> bool:
        if self._secret is not None and key == self._secret_name:
            return True
        return key is not None and self._keys is not None and self._keys.trusts(key)

    def _open(self, token: str) -> tuple[_Values, str] | None:
        """What a key that we trust signed, and which; None if its issuer has to be asked."""
        if len(token) > MAX_TOKEN_BYTES or not _COMPACT_JWS.fullmatch(token):
            raise InvalidToken("the token is not a signed JWT")
        try:
            header = read_header(token)
        except BadSignature:
            raise InvalidToken("the token is not a signed JWT") from None
        match header.algorithm:
            case "EdDSA" | "Ed25519" if self._keys is not None:
                return self._open_own(token, header, self._keys)
            case "HS256" if self._secret is not None:
                return _open(self._hs256, token, self._secret), self._secret_name
            case _:
                raise InvalidToken("the token's algorithm is not accepted here")

    def _open_own(self, token: str, header: Header, keys: KeySource) -> tuple[_Values, str] | None:
        if not isinstance(header.key_id, str):
            raise InvalidToken("the token names no key")
        if not keys.known:
            raise KeysUnknown("the keys to check tokens with are not known yet")
        found = keys.find(header.key_id)
        if not found:
            return None
        values, key = self._open_eddsa(token, found)
        if values.get("iss") != self._issuer or values.get("aud") is None:
            raise InvalidToken("the token is of another issuer")
        if values.get("iat") is None or not values.get("sid") or not values.get("jti"):
            raise InvalidToken("the token lacks a claim")
        return values, key.thumbprint

    def _open_eddsa(self, token: str, keys: Sequence[TrustedKey]) -> tuple[_Values, TrustedKey]:
        *others, last = keys
        for key in others:  # of an issuer that uses a name twice
            with suppress(InvalidToken):
                return _open(self._eddsa, token, key.public_key.public_bytes_raw()), key
        return _open(self._eddsa, token, last.public_key.public_bytes_raw()), last

    def _claims(self, values: _Values, key: str) -> Claims:
        if values.get("channel"):
            raise InvalidToken("the token is for a subscription, not for a connection")
        issued_at, expires_at = self._check_times(values)
        user_id = _user_id(values)
        claims = Claims(
            user_id=user_id,
            name=shown_name(values.get("name")) or shown_name(f"User {user_id}".rstrip()),
            session_id=_session_id(values),
            issued_at=issued_at,
            expires_at=read_end(values, expires_at),
            key=key,
            token_expires_at=expires_at,
            info=read_raw(values, "info"),
            channels=read_channels(values),
        )
        self._check_end(claims, self._now())
        return claims

    def _subscription_claims(self, values: _Values, key: str) -> SubscriptionClaims:
        channel = read_channel(values)
        issued_at, expires_at = self._check_times(values)
        client_id = values.get("client") or None
        if not isinstance(client_id, str | None):
            raise InvalidToken("the token's connection is not readable")
        claims = SubscriptionClaims(
            user_id=_user_id(values),
            channel=channel,
            client_id=client_id,
            session_id=_session_id(values),
            issued_at=issued_at,
            expires_at=read_end(values, expires_at),
            grant=read_grant(values),
            key=key,
            token_expires_at=expires_at,
        )
        self._check_end(claims, self._now())
        return claims

    def _check_times(self, values: _Values) -> tuple[float | None, float]:
        """When it was issued, and when it expires."""
        now = self._now()
        audience = values.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if audience is not None and self._audience not in audiences:  # RFC 7519 section 4.1.3
            raise InvalidToken("the token is for another audience")
        expires_at, issued_at = read_time(values.get("exp")), read_time(values.get("iat"))
        if expires_at is None:
            raise InvalidToken("the token says not when it expires")
        if expires_at <= now:
            raise TokenExpired("the token has expired")
        begins_at = now if issued_at is None else issued_at
        if max(begins_at, read_time(values.get("nbf")) or 0.0) > now + CLOCK_SKEW_SECONDS:
            raise InvalidToken("the token is not valid yet")
        if expires_at - begins_at > self._max_token_seconds:
            raise InvalidToken("the token's lifetime is too long")  # it would outlive revocations
        return issued_at, expires_at

    def _check_end(self, claims: Claims | SubscriptionClaims, now: float) -> None:
        if claims.expires_at > now:
            return
        if claims.token_expires_at > now:
            raise GrantExpired("what the token grants has expired")
        raise TokenExpired("the token has expired")


def _user_id(values: _Values) -> UserId:
    subject = values.get("sub") or ANONYMOUS
    try:
        if isinstance(subject, str):
            return parse_user_id(subject) if subject else ANONYMOUS
    except BadUserId:
        pass
    raise InvalidToken("the token's subject is not a user id")


def _session_id(values: _Values) -> SessionId | None:
    session_id = values.get("sid")
    if session_id is None:
        return None
    if isinstance(session_id, str) and 1 <= len(session_id) <= MAX_SESSION_ID_CHARS:
        return SessionId(session_id)
    raise InvalidToken("the token's session is not readable")


@asynccontextmanager
async def open_verifier(
    settings: ServiceSettings,
    *,
    own_keys: FixedKeys | None = None,
    supervisor: Supervisor | None = None,
) -> AsyncGenerator[TokenVerifier]:
    """The verifier that the settings describe.

    ``own_keys`` stand in for the JWKS URL where the issuer lives in the same process.
    ``supervisor`` is the process's.
    """

    def verifier(keys: KeySource | None) -> TokenVerifier:
        secret = settings.hmac_secret
        return TokenVerifier(
            keys,
            issuer=settings.token_issuer,
            audience=settings.token_audience,
            hmac_secret=None if secret is None else secret.get_secret_value(),
            max_token_seconds=settings.max_token_seconds,
            remembered_tokens=settings.remembered_tokens,
        )

    if own_keys is not None or settings.jwks_url is None:
        yield verifier(own_keys)
        return
    for doubt in settings.doubts:
        log.warning("settings_doubtful", reason=doubt)
    proxy = settings.jwks_proxy
    async with jwks_keys(
        settings.jwks_url,
        supervisor or Supervisor(),
        proxy=None if proxy is None else proxy.get_secret_value(),
    ) as keys:
        yield verifier(keys)


def _open(opener: TokenOpener, token: str, key: Any) -> _Values:
    try:
        values = pydantic_core.from_json(opener.open(token, key))
    except BadSignature:
        raise InvalidToken("the token's signature is wrong") from None
    except ValueError:  # its text holds some of the payload: not to be chained into a log
        values = None
    if type(values) is not dict:
        raise InvalidToken("the token's claims are not readable")
    return values
