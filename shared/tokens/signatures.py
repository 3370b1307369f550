"""Signed tokens opened by PyJWT, less what it would do anew for each of them.

As it comes, PyJWT judges a base64url text byte by byte in Python, and the HMAC secret (is it
a PEM, a DER, a JWK?) at every token: 100 of the 120 µs that a token cost here. An Ed25519
signature takes OpenSSL, which it asks, twice the time that it takes libsodium.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import jwt
import pydantic_core
import structlog
from jwt.algorithms import Algorithm, HMACAlgorithm, OKPAlgorithm
from nacl.bindings import crypto_sign_BYTES, crypto_sign_open
from nacl.exceptions import BadSignatureError

from shared.runtime.issuer_settings import HMAC_ALGORITHMS

log = structlog.get_logger(__name__)

_FROM_URL, _TO_URL = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")


class BadSignature(ValueError):
    """Not signed with that key, or not a signed token at all."""


class Header(NamedTuple):
    """What a token says of its own signature. Nobody vouches for it."""

    algorithm: object
    key_id: object


class Unverified(NamedTuple):
    """A token that was read, and not checked: nobody vouches for any of it."""

    header: Header
    payload: bytes


def read_token(token: str) -> Unverified:
    """Read what a token says of itself, and what it says.

    Raises:
        BadSignature: it has no header, or payload, that can be read.
    """
    try:
        segment, payload, _ = token.encode().split(b".")
        header = pydantic_core.from_json(_base64url_decode(segment))
        if type(header) is not dict:
            raise BadSignature("no header")
        return Unverified(Header(header.get("alg"), header.get("kid")), _base64url_decode(payload))
    except ValueError:
        raise BadSignature("not a signed token") from None


class TokenOpener:
    """Checks signatures of one algorithm, whatever algorithm a token asks for."""

    def __init__(self, names: Sequence[str], algorithm: Algorithm) -> None:
        """``names``: what tokens may call the algorithm."""
        self.algorithm = algorithm
        self._names = names
        self._jws = _Jws(algorithms=[])
        for name in names:
            self._jws.register_algorithm(name, algorithm)

    def open(self, token: str, key: Any) -> bytes:
        """The payload, if the key signed it.

        Raises:
            BadSignature: it did not.
        """
        try:
            opened = self._jws.decode_complete(token, key, algorithms=self._names)
        except (jwt.PyJWTError, ValueError):
            raise BadSignature("not signed with this key") from None
        payload: bytes = opened["payload"]
        return payload


CALLED_OTHERWISE = {"Ed25519": "EdDSA"}
"""RFC 9864 has a name for this curve alone."""


def opener(algorithm: str) -> TokenOpener:
    """For one algorithm of `AlgorithmName`; what it is to be given is a `TrustedKey.material`."""
    if algorithm == "EdDSA":
        return TokenOpener(("EdDSA", "Ed25519"), _Ed25519())
    if algorithm in HMAC_ALGORITHMS:
        hashing = getattr(HMACAlgorithm, f"SHA{algorithm[2:]}")
        return TokenOpener((algorithm,), _PreparedHmac(hashing))
    return TokenOpener((algorithm,), jwt.get_algorithm_by_name(algorithm))


def checked_secret(secret: str) -> bytes:
    """The key that the HMAC secret is.

    Raises:
        ValueError: it is empty, or looks like a public key.
    """
    if not secret:
        raise ValueError("the HMAC secret is empty: anybody could sign with it")
    try:
        key = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError("the HMAC secret is a public key, which anybody has") from error
    if len(key) < 32:  # RFC 7518 section 3.2
        log.warning("hmac_secret_is_short", bytes=len(key), wanted_bytes=32)
    return key


class _Jws(jwt.PyJWS):
    """Should a later PyJWT name this otherwise, its own way is taken: slower, and as strict."""

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        try:
            return _base64url_decode(segment)
        except ValueError:
            raise jwt.DecodeError(f"Invalid {name} padding") from None


def _base64url_decode(segment: bytes) -> bytes:
    """
    Raises:
        ValueError: it isn't what some bytes are encoded as, to the last bit.
    """
    decoded = a2b_base64(segment.translate(_FROM_URL) + b"==")
    if b2a_base64(decoded, newline=False).translate(_TO_URL).rstrip(b"=") != segment:
        raise ValueError("not canonical")
    return decoded


class _Ed25519(OKPAlgorithm):
    """By libsodium, which is stricter, too: no key and no point of small order, and no number
    that is spelled otherwise than it has to be.
    """

    def prepare_key(self, key: Any) -> Any:
        assert isinstance(key, bytes)
        return key

    def verify(self, msg: str | bytes, key: Any, sig: str | bytes) -> bool:
        assert isinstance(msg, bytes)
        assert isinstance(sig, bytes)
        if len(sig) != crypto_sign_BYTES:  # else it could borrow from what is signed
            return False
        try:
            crypto_sign_open(sig + msg, key)
        except BadSignatureError:
            return False
        return True


class _PreparedHmac(HMACAlgorithm):
    """Its key was judged at the start; a short one is a warning once, not at every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key

    def check_key_length(self, key: bytes) -> str | None:
        return None
