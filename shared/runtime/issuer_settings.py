"""Whose tokens are taken, as an operator writes it: one entry of `HUBBUB_ISSUERS` for each."""

import re
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

LONGEST_TOKEN_SECONDS = 31 * 86_400.0
"""More is taken of nobody: revocations have to be kept for as long."""
MIN_RSA_BITS = 2048
HMAC_BYTES = 32
"""That a secret of HS256 has, by RFC 7518."""

HmacName = Literal["HS256", "HS384", "HS512"]
KeyName = Literal[
    "EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"
]
AlgorithmName = HmacName | KeyName
HMAC_ALGORITHMS = frozenset(get_args(HmacName))

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

BY_DEFAULT = frozenset({"EdDSA", "ES256", "RS256"})
"""What tokens may be signed with by public keys, where nothing is said of it."""
_OF_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_OF_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


class BadKey(ValueError):
    """No key that signatures could be checked with; it is not repeated here."""


def algorithms_of(key: object) -> frozenset[str]:
    """What a public key may be used with, and nothing else may.

    Raises:
        BadKey: with nothing that we know, or that is safe.
    """
    if isinstance(key, Ed25519PublicKey):
        return frozenset({"EdDSA"})
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _OF_CURVE:
        return frozenset({_OF_CURVE[key.curve.name]})
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise BadKey(f"an RSA key of less than {MIN_RSA_BITS} bits")
        return _OF_RSA
    raise BadKey("not a public key of Ed25519, of RSA, or of the curves P-256, P-384 and P-521")


def read_public_keys(pem: str) -> list[PublicKey]:
    """Read one public key, or several below each other.

    Raises:
        BadKey: one of them is none.
    """
    keys: list[PublicKey] = []
    for block in _PEM_BLOCK.finditer(pem):
        if "PRIVATE" in block[1]:
            raise BadKey("a private key, which only the issuer should have")
        try:
            key: Any = load_pem_public_key(block[0].encode())
        except (ValueError, UnsupportedAlgorithm):
            raise BadKey("not a public key in PEM") from None
        algorithms_of(key)
        keys.append(key)
    if not keys:
        raise BadKey("not a public key in PEM")
    return keys


def check_secret(secret: SecretStr) -> SecretStr:
    """
    Raises:
        ValueError: anybody could sign with it.
    """
    if not secret.get_secret_value():
        raise ValueError("empty: anybody could sign with it")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret.get_secret_value())
    except jwt.InvalidKeyError:
        raise ValueError("a public key, which anybody has") from None
    return secret


def is_short(secret: SecretStr) -> bool:
    return len(secret.get_secret_value().encode()) < HMAC_BYTES


def ends_with_space(secret: SecretStr) -> bool:
    """Or with a line's end, as in a file of variables that was written on Windows."""
    return secret.get_secret_value()[-1:].isspace()


def check_proxy(proxy: SecretStr) -> SecretStr:
    """
    Raises:
        ValueError: it is no HTTP proxy.
    """
    if not _is_http(proxy.get_secret_value()):
        raise ValueError("not the URL of an HTTP proxy, http://host:port")
    return proxy


def _check_url(url: str) -> str:
    if not _is_http(url):
        raise ValueError("not an address of HTTP or HTTPS")
    return url


def _is_http(address: str) -> bool:
    try:
        url = urlsplit(address)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # it would be told, with a password maybe
        return False


Name = Annotated[str, Field(min_length=1, max_length=1024)]
Secret = Annotated[SecretStr, AfterValidator(check_secret)]
Proxy = Annotated[SecretStr, AfterValidator(check_proxy)]
HttpUrl = Annotated[str, AfterValidator(_check_url)]


class IssuerSettings(BaseModel):
    """One issuer: how its signatures are checked, and what else its tokens have to be."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: Name | None = None
    """The `iss` of its tokens; without one, that of all which no other entry names."""
    jwks_url: HttpUrl | None = None
    jwks_proxy: Proxy | None = None
    hmac_secret: Secret | None = None
    hmac_secrets: tuple[Secret, ...] = Field((), max_length=2)
    """While a secret is changed: the new one, and the one before it."""
    public_key: str | None = None
    """In PEM; several below each other."""
    algorithms: tuple[AlgorithmName, ...] = ()
    audience: Name | tuple[Name, ...] | None = None
    """What `aud` has to name, one of several; None for a token for whomever."""
    user_claim: Name = "sub"
    max_token_seconds: Annotated[float, Field(gt=0, le=LONGEST_TOKEN_SECONDS)] | None = None
    require_exp: bool = True

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        return self.hmac_secrets if self.hmac_secret is None else (self.hmac_secret,)

    @property
    def accepted(self) -> frozenset[str]:
        """The algorithms that its tokens may be signed with."""
        if self.algorithms:
            return frozenset(self.algorithms)
        if self.secrets:
            return frozenset({"HS256"})
        if self.public_key is not None:
            return BY_DEFAULT & self._of_its_keys
        return BY_DEFAULT

    @property
    def audiences(self) -> frozenset[str]:
        """Empty for any."""
        if self.audience is None:
            return frozenset()
        return frozenset([self.audience] if isinstance(self.audience, str) else self.audience)

    @property
    def _of_its_keys(self) -> frozenset[str]:
        assert self.public_key is not None
        keys = read_public_keys(self.public_key)
        return frozenset().union(*(algorithms_of(key) for key in keys))

    @model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        if self.hmac_secret is not None and self.hmac_secrets:
            raise ValueError("hmac_secret and hmac_secrets: give one of them")
        ways = [bool(self.secrets), self.jwks_url is not None, self.public_key is not None]
        if sum(ways) != 1:
            raise ValueError("give one of jwks_url, public_key, hmac_secret and hmac_secrets")
        if self.secrets:
            possible = HMAC_ALGORITHMS
        elif self.public_key is not None:
            possible = self._of_its_keys
        else:
            possible = frozenset(get_args(KeyName))
        if not self.accepted or not self.accepted <= possible:
            raise ValueError("algorithms: its keys, or secrets, are not of all of these kinds")
        return self
