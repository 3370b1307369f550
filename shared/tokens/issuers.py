"""Whose tokens we believe: one object for each issuer, with its keys and what it has to say."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pydantic_core

from hubbub_client.contracts.ids import (
    ANONYMOUS,
    BadUserId,
    UserId,
    parse_user_id,
    user_id_from_json,
)
from shared.tokens.claims import (
    MAX_SESSION_ID_CHARS,
    NEVER,
    Claims,
    SessionId,
    SubscriptionClaims,
    read_channel,
    read_channels,
    read_end,
    read_grant,
    read_raw,
    read_time,
    shown_name,
)
from shared.tokens.errors import InvalidToken, KeysUnknown, TokenExpired
from shared.tokens.jwk import TrustedKey
from shared.tokens.keys import KeySource
from shared.tokens.signatures import BadSignature, Header, SignatureChecker, checker

CLOCK_SKEW_SECONDS = 30.0
"""How far an issuer's clock may be ahead of ours."""

_Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRules:
    """What the tokens of one issuer have to be."""

    name: str | None
    """Their `iss`; None takes those of all that nobody else is named for, and those without."""
    algorithms: frozenset[str]
    audiences: frozenset[str] = frozenset()
    """One of which `aud` has to name, if there is one; empty for any."""
    required: frozenset[str] = frozenset({"exp"})
    """Claims that may not be missing."""
    user_claim: str = "sub"
    max_token_seconds: float


class Issuer:
    """Checks the tokens of one issuer, and reads what they say."""

    def __init__(self, rules: IssuerRules, keys: KeySource) -> None:
        self.id = secrets.token_hex(4)
        """Of this object: whose claims they are, until it is made anew with other keys."""
        self.rules = rules
        self.keys = keys
        self._checkers: Mapping[str, SignatureChecker] = {
            algorithm: checker(algorithm) for algorithm in rules.algorithms
        }

    def key_of(self, token: str, header: Header, algorithm: str) -> TrustedKey | None:
        """The key that signed the token; None if the issuer has to be asked whether it is its own.

        Raises:
            InvalidToken: none did.
            KeysUnknown: the keys were never fetched.
        """
        if not self.keys.known:
            raise KeysUnknown("the keys of the token's issuer are not known yet")
        key_id = ""
        if self.keys.are_named:
            if not isinstance(header.key_id, str):
                raise InvalidToken("the token names no key (`kid`)")
            key_id = header.key_id
        found = self.keys.find(key_id)
        if not found:
            return None
        fit = [key for key in found if algorithm in key.algorithms]
        for key in fit:  # several of one name, or two secrets
            try:
                self._checkers[algorithm].check(token, key.material)
            except BadSignature:
                continue
            return key
        raise InvalidToken(
            "the token's signature is wrong" if fit else "the token's key is of another algorithm"
        )

    def read(self, values: _Values, key: TrustedKey, now: float) -> Claims | SubscriptionClaims:
        """What a token says that the key signed.

        Raises:
            InvalidToken: it doesn't say what it has to, or it is not meant for us, or not for now.
        """
        self._check_required(values)
        self._check_audience(values.get("aud"))
        issued_at, expires_at = self._times(values, now)
        return (self._subscription if values.get("channel") else self._connection)(
            values, key, issued_at, expires_at
        )

    def _connection(
        self, values: _Values, key: TrustedKey, issued_at: float | None, expires_at: float
    ) -> Claims:
        user_id = self._user_id(values)
        return Claims(
            user_id=user_id,
            name=shown_name(values.get("name")) or shown_name(f"User {user_id}"),
            session_id=_session_id(values),
            issued_at=issued_at,
            expires_at=read_end(values, expires_at),
            key=key.thumbprint,
            issuer=self.id,
            token_expires_at=expires_at,
            info=read_raw(values, "info"),
            channels=read_channels(values),
            meta=read_raw(values, "meta"),
        )

    def _subscription(
        self, values: _Values, key: TrustedKey, issued_at: float | None, expires_at: float
    ) -> SubscriptionClaims:
        client_id = values.get("client") or None
        if not isinstance(client_id, str | None):
            raise InvalidToken("the token's `client` is not readable")
        return SubscriptionClaims(
            user_id=self._user_id(values),
            channel=read_channel(values),
            client_id=client_id,
            session_id=_session_id(values),
            issued_at=issued_at,
            expires_at=read_end(values, expires_at),
            grant=read_grant(values),
            key=key.thumbprint,
            issuer=self.id,
            token_expires_at=expires_at,
        )

    def _check_required(self, values: _Values) -> None:
        for claim in self.rules.required:
            if values.get(claim) in (None, ""):
                raise InvalidToken(f"the token lacks the claim `{claim}`")

    def _check_audience(self, audience: object) -> None:
        if audience is None or not self.rules.audiences:
            return
        named = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(each, str) and each in self.rules.audiences for each in named):
            raise InvalidToken("the token is for another audience")  # RFC 7519 section 4.1.3

    def _times(self, values: _Values, now: float) -> tuple[float | None, float]:
        """When it was issued, and when it expires."""
        issued_at, expires_at = read_time(values, "iat"), read_time(values, "exp")
        if expires_at is not None and expires_at <= now:
            raise TokenExpired(f"the token expired {now - expires_at:.0f} s ago")
        begins_at = now if issued_at is None else issued_at
        valid_at = max(begins_at, read_time(values, "nbf") or 0.0)
        if valid_at > now + CLOCK_SKEW_SECONDS:
            raise InvalidToken(f"the token is not valid yet, but in {valid_at - now:.0f} s")
        if expires_at is None:
            return issued_at, NEVER
        lifetime, longest = expires_at - begins_at, self.rules.max_token_seconds
        if lifetime > longest:  # it would outlive revocations
            raise InvalidToken(
                f"the token's lifetime is too long: {lifetime:.0f} s, and {longest:.0f} s are taken"
            )
        return issued_at, expires_at

    def _user_id(self, values: _Values) -> UserId:
        claim = self.rules.user_claim
        user = values.get(claim)
        if claim == "sub":  # RFC 7519: a text, and nothing else
            if user in (None, ""):
                return ANONYMOUS
            if not isinstance(user, str):
                raise InvalidToken("the token's `sub` is not a user id")
        elif user in (None, ""):
            raise InvalidToken(f"the token lacks the claim `{claim}`, which names the user")
        try:
            return parse_user_id(user) if isinstance(user, str) else user_id_from_json(user)
        except BadUserId:
            raise InvalidToken(f"the token's `{claim}` is not a user id") from None


def read_values(payload: bytes) -> _Values:
    """The claims of a token.

    Raises:
        InvalidToken: they are no JSON object.
    """
    try:
        values = pydantic_core.from_json(payload)
    except ValueError:  # its text holds some of the payload: not to be chained into a log
        values = None
    if type(values) is not dict:
        raise InvalidToken("the token's claims are not readable")
    return values


def _session_id(values: _Values) -> SessionId | None:
    session_id = values.get("sid")
    if session_id is None:
        return None
    if isinstance(session_id, str) and 1 <= len(session_id) <= MAX_SESSION_ID_CHARS:
        return SessionId(session_id)
    raise InvalidToken("the token's `sid` is not readable")
