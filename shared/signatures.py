"""Signed tokens taken apart, and the two kinds of signature that we believe.

By hand, since it is done at every connect and is short: PyJWT takes a hundred microseconds
for it. There is one reading of a token, and one spelling that it takes.
"""

import hmac
from binascii import a2b_base64, b2a_base64
from typing import NamedTuple

import jwt
import pydantic_core
import structlog
from jwt.algorithms import HMACAlgorithm
from nacl.bindings import crypto_sign_BYTES, crypto_sign_open
from nacl.exceptions import BadSignatureError

log = structlog.get_logger(__name__)

_FROM_URL, _TO_URL = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")


class BadSignature(ValueError):
    """Not signed with that key, or not a signed token at all."""


class SignedToken(NamedTuple):
    """A token in its parts. Nobody vouches for what its header says, such as the algorithm."""

    algorithm: object
    key_id: str | None
    signed: bytes
    """What the signature is of: header and payload as they are spelled."""
    signature: bytes

    def opened_by_secret(self, secret: hmac.HMAC) -> bytes:
        """The payload, if its HMAC (HS256) is of this secret.

        Args:
            secret: From `checked_secret`.

        Raises:
            BadSignature: it is not.
        """
        own = secret.copy()
        own.update(self.signed)
        if not hmac.compare_digest(own.digest(), self.signature):
            raise BadSignature("not signed with this secret")
        return self._payload()

    def opened_by_key(self, public_key: bytes) -> bytes:
        """The payload, if its signature (EdDSA, by Ed25519) is of this key's owner.

        Libsodium takes half the time of OpenSSL, and is stricter: no key and no point of small
        order, and no number that is spelled otherwise than it has to be.

        Raises:
            BadSignature: it is not.
        """
        if len(self.signature) != crypto_sign_BYTES:  # else it could borrow from what is signed
            raise BadSignature("not a signature")
        try:
            crypto_sign_open(self.signature + self.signed, public_key)
        except BadSignatureError:
            raise BadSignature("not signed with this key") from None
        return self._payload()

    def _payload(self) -> bytes:
        return _base64url_decode(self.signed[self.signed.index(b".") + 1 :])


def read_token(token: str) -> SignedToken:
    """Take a token apart.

    Raises:
        BadSignature: it is none, or its header asks for what we don't know.
    """
    signed, _, signature = token.encode(errors="replace").rpartition(b".")
    try:
        header = pydantic_core.from_json(_base64url_decode(signed.partition(b".")[0]))
        raw_signature = _base64url_decode(signature)
    except ValueError:
        raise BadSignature("not a token") from None
    if type(header) is not dict:
        raise BadSignature("no header")
    if "crit" in header or "b64" in header:  # RFC 7515 section 4.1.11, RFC 7797 section 6
        raise BadSignature("who doesn't know what this asks for has to refuse it")
    if type(header.get("kid", "")) is not str:
        raise BadSignature("no key has such a name")
    return SignedToken(header.get("alg"), header.get("kid"), signed, raw_signature)


def checked_secret(secret: str) -> hmac.HMAC:
    """The HMAC secret, with what is the same for all tokens done once.

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
    return hmac.new(key, digestmod="sha256")


def _base64url_decode(segment: bytes) -> bytes:
    """
    Raises:
        BadSignature: it isn't what some bytes are encoded as, to the last bit.
    """
    try:
        decoded = a2b_base64(segment.translate(_FROM_URL) + b"==")
    except ValueError:
        raise BadSignature("not base64url") from None
    if b2a_base64(decoded, newline=False).translate(_TO_URL).rstrip(b"=") != segment:
        raise BadSignature("not canonical")
    return decoded
