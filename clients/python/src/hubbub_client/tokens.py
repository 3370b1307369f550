"""Tokens for your own users, signed with a secret or with a private key.

Hubbub's docs/tokens.md says how its gateways are told of them, and what each claim does.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hubbub_client.arguments import User, listed, user_id

try:
    import jwt
except ImportError as error:
    raise ImportError("tokens need PyJWT: pip install 'hubbub-client[tokens]'") from error

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    SigningKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_MAX_KEYS = 8
"""That are kept as they were read: to read an RSA key takes longer than to sign with it."""


def connection_token(
    user: User,
    *,
    secret: str | None = None,
    key: str | None = None,
    key_id: str | None = None,
    issuer: str | None = None,
    audience: str | None = None,
    seconds: float = 900,
    name: str | None = None,
    info: object = None,
    channels: Iterable[str] = (),
    session: str | None = None,
) -> str:
    """The token with which a user's page or app connects.

    Args:
        secret: What gateways know as the `hmac_secret`; signs with HS256.
        key: Or a private key in PEM: Ed25519 signs with EdDSA, RSA with RS256, P-256 with ES256.
        key_id: What the issuer's JWKS calls that key.
        issuer: What gateways know as the `issuer`, if they ask for one.
        audience: Likewise.
        seconds: Until it expires, and a new one has to be shown. With 0 or less it has expired.
        name: What others see; without it "User" and the id.
        info: Any JSON value, for others to see as the connection's `conn_info`.
        channels: What the connection is subscribed to without asking.
        session: What the token may be revoked by.

    Raises:
        ValueError: neither a secret nor a key, or both; or nobody is called so; or the seconds
            are no number.
    """
    claims = {"name": name, "info": info, "channels": listed(channels) or None, "sid": session}
    claims |= _common_claims(user, issuer, audience, seconds)
    return _signed(claims, secret, key, key_id)


def subscription_token(
    user: User,
    channel: str,
    *,
    secret: str | None = None,
    key: str | None = None,
    key_id: str | None = None,
    issuer: str | None = None,
    audience: str | None = None,
    seconds: float = 900,
    info: object = None,
    data: object = None,
    connection: str | None = None,
) -> str:
    """The token with which an SDK subscribes to a channel that asks for one, such as `$secret`.

    Args:
        info: Any JSON value, for others in the channel to see as the `chan_info`.
        data: For the subscriber.
        connection: The one connection that may use it.
        secret, key, key_id, issuer, audience, seconds: As of `connection_token`.

    Raises:
        ValueError: as of `connection_token`.
    """
    claims = {"channel": channel, "info": info, "data": data, "client": connection}
    claims |= _common_claims(user, issuer, audience, seconds)
    return _signed(claims, secret, key, key_id)


def _common_claims(
    user: User, issuer: str | None, audience: str | None, seconds: float
) -> dict[str, Any]:
    if not math.isfinite(seconds):
        raise ValueError("a token is good for a number of seconds")
    now = int(datetime.now(UTC).timestamp())
    times = {"iat": now, "exp": now + seconds}
    return {"sub": user_id(user), "iss": issuer, "aud": audience} | times


def _signed(
    claims: Mapping[str, Any], secret: str | None, key: str | None, key_id: str | None
) -> str:
    said = {claim: value for claim, value in claims.items() if value is not None}
    headers = None if key_id is None else {"kid": key_id}
    if (secret is None) == (key is None):
        raise ValueError("a token is signed with a secret or with a key")
    if secret is not None:
        return jwt.encode(said, secret, "HS256", headers)
    assert key is not None
    private, algorithm = _read(key)
    return jwt.encode(said, private, algorithm, headers)


@lru_cache(_MAX_KEYS)
def _read(pem: str) -> "tuple[SigningKey, str]":
    """A private key, and what is signed with it."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise ImportError("keys need cryptography: pip install 'hubbub-client[tokens]'") from error
    key = load_pem_private_key(pem.encode(), password=None)
    match key:
        case ed25519.Ed25519PrivateKey():
            return key, "EdDSA"
        case rsa.RSAPrivateKey():
            return key, "RS256"
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return key, "ES256"
        case _:
            raise ValueError("not a key of Ed25519, RSA or the curve P-256")
