"""The keys that we trust, as issuers publish them (RFC 7517) and as operators write them down."""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import BaseModel, ConfigDict

from shared.runtime.issuer_settings import HMAC_ALGORITHMS, PublicKey, algorithms_of
from shared.tokens.signatures import CALLED_OTHERWISE, checked_secret

log = structlog.get_logger(__name__)

_READERS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "OKP": OKPAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "RSA": RSAAlgorithm.from_jwk,
}
_REQUIRED = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("e", "n")}


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key whose signatures we believe."""

    kid: str
    """What its issuer calls it; nothing, where tokens need not say by which they are signed."""
    thumbprint: str
    """Names the key itself. Of a secret it is chance, so it tells nothing."""
    algorithms: frozenset[str]
    """What it may be used with, whatever a token says."""
    material: Any = field(repr=False)
    """What `signatures.opener` is given: a secret, the bytes of an Ed25519 key, or another key."""


class BadKeySet(ValueError):
    """The text is no JWK set, or none of its keys is one that we can use."""


class BadSigningKey(ValueError):
    """The text is no Ed25519 private key; it is not repeated here."""


class _Jwk(BaseModel):
    """A key that may be one for us: public, and for signatures."""

    model_config = ConfigDict(strict=True, extra="allow")

    kty: Literal["OKP", "EC", "RSA"]
    kid: str | None = None
    use: Literal["sig"] | None = None
    key_ops: list[str] | None = None
    alg: str | None = None


def read_jwks(body: bytes, *, algorithms: Collection[str] = ("EdDSA",)) -> list[TrustedKey]:
    """The keys of a JWK set that one of the algorithms takes; what else is in it is passed over.

    RFC 7517 section 5 wants that of keys that can't be understood: one odd key must not
    take the others along.

    Raises:
        BadKeySet: not a JWK set, or without a key for us. (Were an empty set believed,
            one wrong answer of the issuer would sign everybody out.)
    """
    try:
        jwks = json.loads(body, parse_int=float)  # no number is too long for that
    except (ValueError, RecursionError) as error:
        raise BadKeySet("not JSON") from error
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise BadKeySet("not a JWK set")
    keys = [key for jwk in jwks["keys"] if (key := _read(jwk)) is not None]
    ours = [key for key in keys if not key.algorithms.isdisjoint(algorithms)]
    if not ours:
        raise BadKeySet(f"no signing key in it for {' or '.join(sorted(algorithms))}")
    return ours


def _read(value: object) -> TrustedKey | None:
    try:
        jwk = _Jwk.model_validate(value)
        members = jwk.model_extra or {}
        required = {name: members[name] for name in _REQUIRED[jwk.kty]}
        if not all(isinstance(member, str) for member in required.values()):
            return None
        public_key: Any = _READERS[jwk.kty]({"kty": jwk.kty, **required})
        key = trusted_key(public_key, kid=jwk.kid)
    except (ValueError, KeyError, UnsupportedAlgorithm, PyJWTError):
        return None  # a ValidationError is a ValueError
    if jwk.key_ops is not None and "verify" not in jwk.key_ops:
        return None
    if jwk.alg is not None:
        called = CALLED_OTHERWISE.get(jwk.alg, jwk.alg)
        if called not in key.algorithms:
            return None
        key = TrustedKey(key.kid, key.thumbprint, frozenset({called}), key.material)
    if members.get("d") is not None:
        log.warning("private_key_published", thumbprint=key.thumbprint)
        return None  # everybody who can read the set could sign with it
    return key


def trusted_key(public_key: PublicKey, *, kid: str | None = None) -> TrustedKey:
    """Trust a public key, under its thumbprint unless its issuer calls it otherwise.

    Raises:
        BadKey: no signature by it should be believed.
    """
    algorithms = algorithms_of(public_key)
    own = thumbprint(public_key)
    material = (
        public_key.public_bytes_raw() if isinstance(public_key, Ed25519PublicKey) else public_key
    )
    return TrustedKey(own if kid is None else kid, own, algorithms, material)


def trusted_secret(secret: str) -> TrustedKey:
    """Trust whoever has the secret.

    Raises:
        ValueError: it is empty, or looks like a public key.
    """
    name = f"hmac:{secrets.token_hex(8)}"
    return TrustedKey("", name, HMAC_ALGORITHMS, checked_secret(secret))


def public_jwk(key: TrustedKey) -> Mapping[str, Any]:
    """An Ed25519 key as a JWK set holds it."""
    public_key = Ed25519PublicKey.from_public_bytes(key.material)
    return {**_required_members(public_key), "kid": key.kid, "use": "sig", "alg": "EdDSA"}


def thumbprint(public_key: PublicKey) -> str:
    """The key's own name.

    Source: RFC 7638 section 3, and RFC 8037 appendix A.3 for Ed25519.
    """
    members = json.dumps(_required_members(public_key), separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(members.encode()).digest())


def read_signing_key(pem: str) -> Ed25519PrivateKey:
    """Read the private key that an issuer signs with.

    Raises:
        BadSigningKey: not a PEM, or of another kind of key.
    """
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadSigningKey("not a private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSigningKey("not an Ed25519 key")
    return key


def _required_members(public_key: PublicKey) -> dict[str, str]:
    if isinstance(public_key, Ed25519PublicKey):
        jwk = OKPAlgorithm.to_jwk(public_key, as_dict=True)
    elif isinstance(public_key, RSAPublicKey):
        jwk = RSAAlgorithm.to_jwk(public_key, as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(public_key, as_dict=True)
    return {name: jwk[name] for name in ("kty", *_REQUIRED[jwk["kty"]])}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
