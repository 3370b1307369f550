"""Access tokens: verified with the keys that we trust, and remembered."""

import hashlib
import re
import secrets
import unicodedata
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from shared.contracts.errors import AppError, ErrorKind, Unavailable
from shared.contracts.ids import BadUserId, SessionId, UserId, parse_user_id
from shared.runtime.settings import ServiceSettings
from shared.runtime.supervision import Supervisor
from shared.tokens.keys import FixedKeys, KeySource, TrustedKey, jwks_keys
from shared.tokens.signatures import (
    BadSignature,
    Header,
    JwsVerifier,
    checked_secret,
    eddsa_verifier,
    hs256_verifier,
    read_header,
)

V = TypeVar("V")

_DIGEST_BYTES = 15  # too many for a second token with the same; a `bytes` of 16 takes 16 more


class RememberedTokens(Generic[V]):
    """A cache of what is known of recent tokens, by their digests: it holds no token.

    About 0.15 KiB each, and the value. A value was true when it was put in; the caller checks
    whether it still is.
    """

    def __init__(self, capacity: int) -> None:
        """``capacity``: past it the least recently used goes; 0 keeps none."""
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
MAX_NAME_CHARS = 64
MAX_SESSION_ID_CHARS = 64
CLOCK_SKEW_SECONDS = 30.0
"""How far an issuer's clock may be ahead of ours."""

_COMPACT_JWS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class InvalidToken(AppError):
    """The token is refused. The message says why and holds no part of the token."""

    kind = ErrorKind.UNAUTHENTICATED
    code = "invalid_token"


class KeysUnknown(Unavailable):
    """The issuer's keys were never fetched, so its tokens can't be verified yet."""

    code = "keys_unknown"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, verified. Times are unix seconds."""

    user_id: UserId
    name: str
    session_id: SessionId | None
    issued_at: float | None
    expires_at: float
    key: str | None = None
    """What it was verified with: a public key's thumbprint, or our name for the HMAC secret."""


class _Payload(BaseModel):
    """Strict, so that neither ``"exp": "12"`` nor ``"exp": true`` is a time."""

    model_config = ConfigDict(strict=True, extra="ignore")

    sub: str
    exp: FiniteFloat
    iat: FiniteFloat | None = None
    nbf: FiniteFloat | None = None
    sid: str | None = None
    iss: Any = None
    aud: Any = None
    jti: Any = None
    name: Any = None


class TokenVerifier:
    """Verifies tokens.

    A token can't choose the kind of key: EdDSA is checked with the issuer's public keys only,
    HS256 with the shared secret only.
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
        self._secret_name = f"hmac:{secrets.token_hex(8)}"  # reveals nothing of the secret
        self._issuer = issuer
        self._audience = audience
        self._max_token_seconds = max_token_seconds
        self._now = now
        self._remembered: RememberedTokens[Claims] = RememberedTokens(remembered_tokens)
        self._eddsa = eddsa_verifier()
        self._hs256 = hs256_verifier()

    @property
    def ready(self) -> bool:
        """Whether there is a key to verify tokens with."""
        return self._secret is not None or (self._keys is not None and self._keys.known)

    @property
    def remembered(self) -> int:
        """How many verified tokens are cached."""
        return len(self._remembered)

    def recall(self, token: str) -> Claims | None:
        """The claims of a token that was verified before, if they still hold; None: verify it.

        A signature costs up to 100 µs, this a few. Expiry and trust in the key are checked each
        time; claims that no longer hold are dropped.
        """
        if len(token) > MAX_TOKEN_BYTES:
            return None
        claims = self._remembered.get(token)
        if claims is None or self._why_invalid(claims) is None:
            return claims
        self._remembered.drop(token)
        return None

    def forget(self, token: str) -> None:
        """Drop it from the cache: if it comes again, verify it in full."""
        self._remembered.drop(token)

    async def verify(self, token: str) -> Claims:
        """Verify a token, unless it is cached and still holds.

        Raises:
            InvalidToken: for whatever is wrong with it.
            KeysUnknown: its issuer's keys were never fetched; it may be valid.
        """
        claims = self.verify_at_once(token)
        if claims is None and self._keys is not None:
            await self._keys.look_again()
            claims = self.verify_at_once(token)
        if claims is None:
            raise InvalidToken("the token's key is not trusted")
        return claims

    def verify_at_once(self, token: str) -> Claims | None:
        """`verify` without waiting; None if its issuer has to be asked for another key first.

        Raises:
            InvalidToken, KeysUnknown: as `verify` says.
        """
        claims = self.recall(token)
        if claims is None:
            claims = self._check(token)
            if claims is not None:
                self._remembered.put(token, claims)
        return claims

    def confirm(self, claims: Claims) -> None:
        """Check again what changes with time: the expiry, and trust in the key.

        Raises:
            InvalidToken: it has expired, or the key is no longer trusted.
        """
        reason = self._why_invalid(claims)
        if reason is not None:
            raise InvalidToken(reason)

    def _why_invalid(self, claims: Claims) -> str | None:
        if claims.expires_at <= self._now():
            return "the token has expired"
        if not self._trusts(claims.key):
            return "the token's key is not trusted"
        return None

    def _trusts(self, key: str | None) -> bool:
        if self._secret is not None and key == self._secret_name:
            return True
        return key is not None and self._keys is not None and self._keys.trusts(key)

    def _check(self, token: str) -> Claims | None:
        if len(token) > MAX_TOKEN_BYTES or not _COMPACT_JWS.fullmatch(token):
            raise InvalidToken("the token is not a signed JWT")
        try:
            header = read_header(token)
        except BadSignature:
            raise InvalidToken("the token is not a signed JWT") from None
        match header.algorithm:
            case "EdDSA" | "Ed25519" if self._keys is not None:
                return self._check_eddsa(token, header, self._keys)
            case "HS256" if self._secret is not None:
                payload = _payload(self._hs256, token, self._secret)
                return self._claims(payload, key=self._secret_name)
            case _:
                raise InvalidToken("the token's algorithm is not accepted here")

    def _check_eddsa(self, token: str, header: Header, keys: KeySource) -> Claims | None:
        if not isinstance(header.key_id, str):
            raise InvalidToken("the token names no key")
        if not keys.known:
            raise KeysUnknown("the keys to check tokens with are not known yet")
        found = keys.find(header.key_id)
        if not found:
            return None
        key, payload = self._verified_by(token, found)
        if payload.iss != self._issuer or payload.aud is None:
            raise InvalidToken("the token is of another issuer")
        if payload.iat is None or not payload.sid or not payload.jti:
            raise InvalidToken("the token lacks a claim")
        return self._claims(payload, key=key.thumbprint)

    def _verified_by(self, token: str, keys: Sequence[TrustedKey]) -> tuple[TrustedKey, _Payload]:
        *others, last = keys
        for key in others:  # an issuer may use one key id for several
            with suppress(InvalidToken):
                return key, _payload(self._eddsa, token, key.public_key.public_bytes_raw())
        return last, _payload(self._eddsa, token, last.public_key.public_bytes_raw())

    def _claims(self, payload: _Payload, *, key: str) -> Claims:
        now = self._now()
        audiences = payload.aud if isinstance(payload.aud, list) else [payload.aud]
        if payload.aud is not None and self._audience not in audiences:  # RFC 7519 section 4.1.3
            raise InvalidToken("the token is for another audience")
        if payload.exp <= now:
            raise InvalidToken("the token has expired")
        issued_at = now if payload.iat is None else payload.iat
        if max(issued_at, payload.nbf or 0.0) > now + CLOCK_SKEW_SECONDS:
            raise InvalidToken("the token is not valid yet")
        if payload.exp - issued_at > self._max_token_seconds:
            raise InvalidToken("the token's lifetime is too long")  # it would outlive revocations
        try:
            user_id = parse_user_id(payload.sub)
        except BadUserId:
            raise InvalidToken("the token's subject is not a user id") from None
        if payload.sid is not None and not 1 <= len(payload.sid) <= MAX_SESSION_ID_CHARS:
            raise InvalidToken("the token's session is not readable")
        return Claims(
            user_id=user_id,
            name=shown_name(payload.name) or shown_name(f"User {user_id}"),
            session_id=None if payload.sid is None else SessionId(payload.sid),
            issued_at=payload.iat,
            expires_at=payload.exp,
            key=key,
        )


def shown_name(name: object) -> str:
    """A name as others may see it: short, without control or direction characters."""
    if not isinstance(name, str):
        return ""
    if name.isascii() and name.isprintable():
        return name.strip()[:MAX_NAME_CHARS].rstrip()
    kept = (
        character
        for character in name[: 4 * MAX_NAME_CHARS]
        if character not in _BIDI_OVERRIDES and unicodedata.category(character) not in _UNPRINTABLE
    )
    return "".join(kept).strip()[:MAX_NAME_CHARS].rstrip()


@asynccontextmanager
async def open_verifier(
    settings: ServiceSettings,
    *,
    own_keys: FixedKeys | None = None,
    supervisor: Supervisor | None = None,
) -> AsyncGenerator[TokenVerifier]:
    """The verifier that the settings describe.

    ``own_keys`` replace the JWKS URL where the issuer is in the same process. ``supervisor`` is
    the process's.
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
    for warning in settings.warnings:
        log.warning("settings_doubtful", reason=warning)
    proxy = settings.jwks_proxy
    async with jwks_keys(
        settings.jwks_url,
        supervisor or Supervisor(),
        proxy=None if proxy is None else proxy.get_secret_value(),
    ) as keys:
        yield verifier(keys)


def _payload(verifier: JwsVerifier, token: str, key: Any) -> _Payload:
    try:
        return _Payload.model_validate_json(verifier.verify(token, key))
    except ValidationError:  # its text holds the payload, which must not get into a log
        raise InvalidToken("the token's claims are not readable") from None
    except BadSignature:
        raise InvalidToken("the token's signature is wrong") from None
