"""The public keys that we trust: known from the start, or fetched and kept fresh."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx2
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict

from shared.runtime.supervision import Loop, Supervisor

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key whose signatures we accept."""

    kid: str
    thumbprint: str
    """Identifies the key itself; a ``kid`` is only its issuer's name for it."""
    public_key: Ed25519PublicKey


class KeySource(Protocol):
    """Where a verifier finds keys."""

    @property
    def known(self) -> bool:
        """Whether any key is known."""

    def find(self, kid: str) -> Sequence[TrustedKey]:
        """The keys that the issuer calls ``kid``: one, unless it uses a name twice."""

    def trusts(self, thumbprint: str) -> bool:
        """Whether the key is still trusted."""

    async def look_again(self) -> None:
        """Ask the issuer for its keys, unless that was done a moment ago."""


class FixedKeys:
    """Keys that are known from the start."""

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._keys: dict[str, tuple[TrustedKey, ...]] = {}
        for key in keys:
            self._keys[key.kid] = (*self._keys.get(key.kid, ()), key)
        self._thumbprints = frozenset(
            key.thumbprint for of_one in self._keys.values() for key in of_one
        )

    @property
    def known(self) -> bool:
        return bool(self._keys)

    def find(self, kid: str) -> Sequence[TrustedKey]:
        return self._keys.get(kid, ())

    def trusts(self, thumbprint: str) -> bool:
        return thumbprint in self._thumbprints

    async def look_again(self) -> None:
        """These keys never change."""


class JwksKeys:
    """Keys from an issuer's URL; the last good set stays in force while the issuer is away."""

    def __init__(
        self,
        url: str,
        client: httpx2.AsyncClient,
        *,
        refresh_seconds: float = 300.0,
        retry_seconds: float = 1.0,
        look_again_seconds: float = 5.0,
        fetch_seconds: float = 5.0,
        max_bytes: int = 64 * 1024,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``look_again_seconds``: tokens with unknown keys make us ask at most this often."""
        self._url = url
        self._client = client
        self._refresh_seconds = refresh_seconds
        self._retry_seconds = retry_seconds
        self._look_again_seconds = look_again_seconds
        self._fetch_seconds = fetch_seconds
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._keys = FixedKeys(())
        self._looking = asyncio.Lock()
        self._next_look = monotonic()

    @property
    def known(self) -> bool:
        return self._keys.known

    def find(self, kid: str) -> Sequence[TrustedKey]:
        return self._keys.find(kid)

    def trusts(self, thumbprint: str) -> bool:
        return self._keys.trusts(thumbprint)

    async def look_again(self) -> None:
        async with self._looking:  # who waited here finds the keys that the first one fetched
            if self._monotonic() >= self._next_look:
                await self._fetch()

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        while True:
            async with self._looking:
                fetched = await self._fetch()
            await asyncio.sleep(self._refresh_seconds if fetched else self._retry_seconds)

    async def _fetch(self) -> bool:
        try:
            async with asyncio.timeout(self._fetch_seconds):
                keys = read_jwks(await self._read())
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, BadKeySet) as error:
            log.warning("keys_not_fetched", url=self._url, reason=repr(error), known=self.known)
            return False
        finally:  # not before: if the issuer hangs, each who waited would ask again
            self._next_look = self._monotonic() + self._look_again_seconds
        self._keys = FixedKeys(keys)
        return True

    async def _read(self) -> bytes:
        async with self._client.stream("GET", self._url) as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._max_bytes:
                    raise BadKeySet(f"over {self._max_bytes} bytes")
        return bytes(body)


@asynccontextmanager
async def jwks_keys(
    url: str, supervisor: Supervisor, *, proxy: str | None = None
) -> AsyncGenerator[JwksKeys]:
    """The keys behind ``url``, kept fresh while inside; does not wait for the issuer.

    Without ``proxy`` they are fetched directly: the proxy that the environment names is for the
    internet, and the issuer is mostly on our own network.
    """
    # With its own transport the client takes no proxy from the environment.
    transport = httpx2.AsyncHTTPTransport(proxy=proxy)
    async with httpx2.AsyncClient(transport=transport) as client:
        keys = JwksKeys(url, client)
        async with supervisor.running(Loop("keys", keys.run, is_vital=False)):
            yield keys


class BadKeySet(ValueError):
    """The text is not a JWK set, or none of its keys is one that we can use."""


class _Jwk(BaseModel):
    """A key that we can use: of Ed25519, public, and for signatures."""

    model_config = ConfigDict(strict=True, extra="ignore")

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str | None = None
    use: Literal["sig"] | None = None
    key_ops: list[str] | None = None
    alg: Literal["EdDSA", "Ed25519"] | None = None
    """The name of RFC 8037, or of RFC 9864, which is for this curve alone."""
    d: Any = None


def read_jwks(body: bytes) -> list[TrustedKey]:
    """The Ed25519 signing keys of a JWK set; other keys are ignored (RFC 7517 section 5).

    Raises:
        BadKeySet: not a JWK set, or without such a key. An empty set is refused, as one wrong
            answer of the issuer would sign everybody out.
    """
    try:
        jwks = json.loads(body, parse_int=float)  # int() refuses long numbers, float() does not
    except (ValueError, RecursionError) as error:
        raise BadKeySet("not JSON") from error
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise BadKeySet("not a JWK set")
    keys = [key for jwk in jwks["keys"] if (key := _trusted_key(jwk)) is not None]
    if not keys:
        raise BadKeySet("no Ed25519 signing key in it")
    return keys


def _trusted_key(value: object) -> TrustedKey | None:
    try:
        jwk = _Jwk.model_validate(value)
        raw = base64.urlsafe_b64decode(jwk.x + "=" * (-len(jwk.x) % 4))
        key = trusted_key(Ed25519PublicKey.from_public_bytes(raw), kid=jwk.kid)
    except (ValueError, UnsupportedAlgorithm):  # a ValidationError is a ValueError
        return None
    if jwk.key_ops is not None and "verify" not in jwk.key_ops:
        return None
    if jwk.d is not None:
        log.warning("private_key_published", thumbprint=key.thumbprint)
        return None  # everybody who can read the set could sign with it
    return key


def trusted_key(public_key: Ed25519PublicKey, *, kid: str | None = None) -> TrustedKey:
    """Trust a public key, under ``kid`` or else its thumbprint."""
    own = thumbprint(public_key)
    return TrustedKey(kid=own if kid is None else kid, thumbprint=own, public_key=public_key)


def public_jwk(key: TrustedKey) -> Mapping[str, Any]:
    """The key as a JWK set holds it."""
    return {**_required_members(key.public_key), "kid": key.kid, "use": "sig", "alg": "EdDSA"}


def thumbprint(public_key: Ed25519PublicKey) -> str:
    """The key's thumbprint.

    Source: RFC 7638 section 3, and RFC 8037 appendix A.3 for this kind of key.
    """
    members = json.dumps(_required_members(public_key), separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(members.encode()).digest())


class BadSigningKey(ValueError):
    """The text is not an Ed25519 private key; the message does not repeat it."""


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


def _required_members(public_key: Ed25519PublicKey) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public_key.public_bytes_raw())}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
