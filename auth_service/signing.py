"""Making access tokens and refresh tokens, and the key that signs."""

import hashlib
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from hubbub_client.contracts.ids import UserId
from shared.tokens.claims import SessionId
from shared.tokens.jwk import TrustedKey, read_signing_key, trusted_key


class TokenIssuer:
    """Issues access tokens that `shared.tokens.access_tokens.TokenVerifier` accepts."""

    def __init__(
        self,
        pem: str,
        *,
        issuer: str,
        audience: str,
        access_token_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        Raises:
            BadSigningKey: the PEM is not that of an Ed25519 private key.
        """
        self._key = read_signing_key(pem)
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self.access_token_seconds = int(access_token_seconds)
        self.public_key: TrustedKey = trusted_key(self._key.public_key())

    def issue(self, user_id: UserId, name: str, session_id: SessionId) -> str:
        issued_at = int(self._now().timestamp())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": user_id,
            "name": name,
            "sid": session_id,
            "jti": secrets.token_urlsafe(12),
            "iat": issued_at,
            "exp": issued_at + self.access_token_seconds,
        }
        return jwt.encode(claims, self._key, "EdDSA", headers={"kid": self.public_key.kid})


def new_refresh_token() -> str:
    """256 random bits: only our database knows what they stand for."""
    return secrets.token_urlsafe(32)


def digest_of(refresh_token: str) -> bytes:
    """What is stored of it. It is too random to be guessed, so a fast hash is enough."""
    return hashlib.sha256(refresh_token.encode()).digest()


def make_signing_key(path: Path) -> None:
    """Write a new key that only the owner can read, whole or not at all, if there is none."""
    if path.exists():
        return
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - it has the mode, a path has not
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        os.link(new, path)
    except FileExistsError:
        pass  # another process was first: use its key
    finally:
        new.unlink()
