"""Tokens for the load, and the issuer that serves their public key to the gateway."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.tokens.jwk import public_jwk, trusted_key

SECRET = "a secret of the benchmarks, 32 bytes"
LIFETIME = timedelta(hours=1)


def hs256_token(user_id: int) -> str:
    """A token signed with the secret that the gateway is configured with."""
    claims = {"sub": str(user_id), "name": f"User {user_id}", "exp": datetime.now(UTC) + LIFETIME}
    return jwt.encode(claims, SECRET, "HS256")


class Issuer:
    """Signs tokens as the auth service does."""

    def __init__(self, jwks_url: str, key: Ed25519PrivateKey) -> None:
        self.jwks_url = jwks_url
        self._key = key
        self._kid = trusted_key(key.public_key()).kid

    def token(self, user_id: int) -> str:
        now = datetime.now(UTC)
        claims = {
            "iss": "hubbub", "aud": "hubbub", "sub": str(user_id), "name": f"User {user_id}",
            "sid": f"s-{user_id}", "jti": f"j-{user_id}", "iat": now, "exp": now + LIFETIME,
        }  # fmt: skip
        return jwt.encode(claims, self._key, "EdDSA", headers={"kid": self._kid})


@asynccontextmanager
async def start_issuer() -> AsyncGenerator[Issuer]:
    """Start an issuer that serves its own key."""
    key = Ed25519PrivateKey.generate()
    body = json.dumps({"keys": [dict(public_jwk(trusted_key(key.public_key())))]}).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield Issuer(f"http://127.0.0.1:{port}/jwks.json", key)
