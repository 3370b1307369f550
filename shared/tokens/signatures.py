"""Signatures of tokens: PyJWT without what it does anew for each token.

PyJWT checks base64url text byte by byte in Python, and asks at every token whether the HMAC
secret is a PEM, a DER or a JWK: 100 of the 120 µs that a token cost here. OpenSSL, which it uses,
takes twice as long as libsodium for an Ed25519 signature.
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

log = structlog.get_logger(__name__)

_FROM_URL, _TO_URL = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")


class BadSignature(ValueError):
    """Not signed with that key, or not a signed token at all."""


class Header(NamedTuple):
    """What a token says of its own signature: unverified."""

    algorithm: object
    key_id: object


def read_header(token: str) -> Header:
    """Read a token's header.

    Raises:
        BadSignature: it has no header that can be read.
    """
    segment, _, _ = token.partition(".")
    try:
        header = pydantic_core.from_json(_base64url_decode(segment.encode()))
    except ValueError:
        raise BadSignature("no header") from None
    if not isinstance(header, dict):
        raise BadSignature("no header")
    return Header(header.get("alg"), header.get("kid"))


class JwsVerifier:
    """Checks signatures of one algorithm, whatever algorithm a token asks for."""

    def __init__(self, names: Sequence[str], algorithm: Algorithm) -> None:
        """``names``: of the algorithm, in the headers of tokens."""
        self.algorithm = algorithm
        self._names = names
        self._jws = _Jws(algorithms=[])
        for name in names:
            self._jws.register_algorithm(name, algorithm)

    def verify(self, token: str, key: Any) -> bytes:
        """The payload, if the key signed it.

        Raises:
            BadSignature: it did not.
        """
        try:
            decoded = self._jws.decode_complete(token, key, algorithms=self._names)
        except (jwt.PyJWTError, ValueError):
            raise BadSignature("not signed with this key") from None
        payload: bytes = decoded["payload"]
        return payload


def eddsa_verifier() -> JwsVerifier:
    """Its keys are the raw bytes of public keys."""
    return JwsVerifier(("EdDSA", "Ed25519"), _Ed25519())


def hs256_verifier() -> JwsVerifier:
    """Its keys are made by `checked_secret`."""
    return JwsVerifier(("HS256",), _PreparedHmac(HMACAlgorithm.SHA256))


def checked_secret(secret: str) -> bytes:
    """The HMAC secret as a key.

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
    """Overrides a private method; if a later PyJWT renames it, PyJWT is slower and as strict."""

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        try:
            return _base64url_decode(segment)
        except ValueError:
            raise jwt.DecodeError(f"Invalid {name} padding") from None


def _base64url_decode(segment: bytes) -> bytes:
    """
    Raises:
        ValueError: it is not the canonical encoding of any bytes.
    """
    decoded = a2b_base64(segment.translate(_FROM_URL) + b"==")
    if b2a_base64(decoded, newline=False).translate(_TO_URL).rstrip(b"=") != segment:
        raise ValueError("not canonical")
    return decoded


class _Ed25519(OKPAlgorithm):
    """By libsodium, which is stricter too: it refuses keys and points of small order, and numbers
    that are not in canonical form.
    """

    def prepare_key(self, key: Any) -> Any:
        assert isinstance(key, bytes)
        return key

    def verify(self, msg: str | bytes, key: Any, sig: str | bytes) -> bool:
        assert isinstance(msg, bytes)
        assert isinstance(sig, bytes)
        if len(sig) != crypto_sign_BYTES:  # a shorter one would take bytes of the message
            return False
        try:
            crypto_sign_open(sig + msg, key)
        except BadSignatureError:
            return False
        return True


class _PreparedHmac(HMACAlgorithm):
    """Its key was checked at the start, with one warning if short; PyJWT warns at every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key

    def check_key_length(self, key: bytes) -> str | None:
        return None
