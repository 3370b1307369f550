"""Signed tokens: what they say, and whether a key signed that, by PyJWT's algorithms.

PyJWT itself would read a token a second time, judge its base64url byte by byte in Python, and the
HMAC secret (is it a PEM, a DER, a JWK?) at every token. An Ed25519 signature takes OpenSSL, which
it asks, twice the time that it takes libsodium.
"""

import hmac
from binascii import a2b_base64, b2a_base64
from functools import lru_cache
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


_KNOWN_HEADERS = 64
"""All tokens of an issuer begin alike; one may be as long as a token."""

_EXTENDED = ("crit", "b64")
"""What a header has if its token is to be read in a way that we don't know (RFC 7515, RFC 7797)."""


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
        return Unverified(_read_header(segment), _base64url_decode(payload))
    except ValueError:
        raise BadSignature("not a signed token") from None


@lru_cache(maxsize=_KNOWN_HEADERS)
def _read_header(segment: bytes) -> Header:
    """
    Raises:
        ValueError: there is none that is understood here.
    """
    header = pydantic_core.from_json(_base64url_decode(segment))
    if type(header) is not dict or not header.keys().isdisjoint(_EXTENDED):
        raise BadSignature("no header that is understood here")
    if not isinstance(header.get("kid", ""), str):
        raise BadSignature("the key's name is no text")
    return Header(header.get("alg"), header.get("kid"))


class SignatureChecker:
    """Checks signatures of one algorithm, whatever algorithm a token asks for."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm

    def check(self, token: str, key: Any) -> None:
        """
        Raises:
            BadSignature: the key did not sign it.
        """
        signed, _, segment = token.encode().rpartition(b".")
        try:
            is_valid = self.algorithm.verify(signed, key, _base64url_decode(segment))
        except ValueError:
            is_valid = False
        if not is_valid:
            raise BadSignature("not signed with this key")


CALLED_OTHERWISE = {"Ed25519": "EdDSA"}
"""RFC 9864 has a name for this curve alone."""


def checker(algorithm: str) -> SignatureChecker:
    """For one algorithm of `AlgorithmName`; what it is to be given is a `TrustedKey.material`."""
    if algorithm == "EdDSA":
        return SignatureChecker(_Ed25519())
    if algorithm in HMAC_ALGORITHMS:
        return SignatureChecker(_PreparedHmac(algorithm))
    return SignatureChecker(jwt.get_algorithm_by_name(algorithm))


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

    def __init__(self, name: str) -> None:
        super().__init__(getattr(HMACAlgorithm, f"SHA{name[2:]}"))
        self._digest = f"sha{name[2:]}"

    def verify(self, msg: bytes, key: bytes, sig: bytes) -> bool:
        return hmac.compare_digest(sig, hmac.digest(key, msg, self._digest))
