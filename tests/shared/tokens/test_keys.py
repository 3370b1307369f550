"""Where the keys come from: an issuer that is slow, away, wrong, or has another key."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import jwt
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from hubbub_client.contracts.errors import Unavailable
from shared.runtime.process import running
from shared.runtime.settings import ServiceSettings
from shared.runtime.supervision import Supervisor
from shared.tokens.configured import open_verifier
from shared.tokens.errors import InvalidToken, KeysUnknown
from shared.tokens.jwk import public_jwk, trusted_key
from shared.tokens.keys import JwksKeys, jwks_keys
from tests.fixtures.tcp import a_tcp_server
from tests.fixtures.tokens import (
    FOREIGN,
    OUR_KEY,
    SECRET,
    Clock,
    a_token,
    a_verifier,
    base64url,
    refusal_of,
    some_claims,
)
from tests.fixtures.waiting import eventually


class Issuer:
    """A real ASGI application with a JWKS that can be changed and taken away."""

    def __init__(self) -> None:
        self.body = json.dumps({"keys": [dict(public_jwk(OUR_KEY))]}).encode()
        self.status = 200
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


def jwks_of(issuer: Issuer, monotonic: Callable[[], float] = lambda: 0.0) -> JwksKeys:
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(issuer))
    return JwksKeys("http://auth/jwks.json", client, look_again_seconds=5, monotonic=monotonic)


@asynccontextmanager
async def listening_issuer(asked: list[str]) -> AsyncGenerator[str]:
    """A server, or a proxy, that answers everything with our keys; notes what it was asked for."""
    body = json.dumps({"keys": [dict(public_jwk(OUR_KEY))]})

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.decode().split()[1])
        writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}".encode())
        writer.close()

    async with a_tcp_server(answer) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "127.0.0.1:9"])
async def test_the_environments_proxy_is_not_asked_for_keys(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    asked: list[str] = []

    async with listening_issuer(asked) as url, jwks_keys(f"{url}/jwks.json", Supervisor()) as keys:
        await eventually(lambda: keys.known)

    assert asked == ["/jwks.json"]


async def test_keys_are_fetched_through_the_proxy_of_the_settings() -> None:
    asked: list[str] = []

    async with listening_issuer(asked) as proxy:
        settings = ServiceSettings(jwks_url="http://issuer.example/jwks.json", jwks_proxy=proxy)
        async with open_verifier(settings) as verifier:
            await eventually(lambda: verifier.ready)

    assert asked == ["http://issuer.example/jwks.json"]


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({"token_issuer": "https://auth.example"}, 1),
        ({"token_issuer": "https://auth.example", "await_auth_service": False}, 0),
        ({}, 0),
    ],
)
async def test_a_start_warns_that_nobody_waits_for_an_issuer_of_another_name(
    settings: dict[str, Any], warnings: int
) -> None:
    with capture_logs() as logs:
        async with (
            listening_issuer([]) as url,
            open_verifier(ServiceSettings(jwks_url=f"{url}/jwks.json", **settings)),
        ):
            pass

    assert [line["event"] for line in logs].count("settings_doubtful") == warnings


@pytest.mark.parametrize(
    "proxy",
    ["", "proxy:3128", "socks5://proxy:1080", "http://", "http://proxy:x", "http://me:secret@:1"],
)
def test_what_is_no_http_proxy_is_refused_without_being_repeated(proxy: str) -> None:
    with pytest.raises(ValidationError, match="not the URL of an HTTP proxy") as refusal:
        ServiceSettings(jwks_proxy=proxy)

    assert "secret" not in str(refusal.value)


async def test_before_the_keys_were_fetched_no_token_is_judged() -> None:
    keys = jwks_of(Issuer())
    verifier = a_verifier(keys=keys, hmac_secret=None)

    assert not verifier.ready
    with pytest.raises(KeysUnknown) as unknown:
        await verifier.verify(a_token(some_claims()))
    assert isinstance(unknown.value, Unavailable)

    await keys.look_again()

    assert verifier.ready
    await verifier.verify(a_token(some_claims()))


async def test_all_who_wait_for_a_slow_issuer_wait_for_one_answer() -> None:
    clock = Clock()

    class SlowIssuer(Issuer):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            clock.now += 6
            await super().__call__(scope, receive, send)

    issuer = SlowIssuer()
    keys = jwks_of(issuer, clock)

    async with asyncio.TaskGroup() as waiting:
        for _ in range(5):
            waiting.create_task(keys.look_again())

    assert issuer.asked == 1


async def test_an_unknown_key_id_asks_the_issuer_once_in_a_while() -> None:
    issuer, clock = Issuer(), Clock()
    keys = jwks_of(issuer, clock)
    verifier = a_verifier(keys=keys)
    await keys.look_again()
    clock.now += 5

    for number in range(20):
        await refusal_of(a_token(some_claims(), key=FOREIGN, kid=f"guess-{number}"), verifier)
    assert issuer.asked == 2

    clock.now += 5
    newer = trusted_key(FOREIGN.public_key())
    issuer.body = json.dumps(
        {"keys": [dict(public_jwk(OUR_KEY)), dict(public_jwk(newer))]}
    ).encode()
    claims = await verifier.verify(a_token(some_claims(), key=FOREIGN, kid=newer.kid))

    assert (claims.user_id, issuer.asked) == ("7", 3)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (200, b"<html>"), (200, b'{"keys":[]}'), (200, b"\xff"),
     (200, json.dumps({"keys": [dict(public_jwk(OUR_KEY))], "x": "y" * 70_000}).encode()),
     (200, b'{"keys":[{"kty":"RSA"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}')],
)  # fmt: skip
async def test_a_bad_answer_of_the_issuer_leaves_the_keys_in_force(
    status: int, body: bytes
) -> None:
    issuer, clock = Issuer(), Clock()
    keys = jwks_of(issuer, clock)
    await keys.look_again()

    [fetched] = keys.find(OUR_KEY.kid)
    issuer.status, issuer.body = status, body
    clock.now += 60
    await keys.look_again()

    assert issuer.asked == 2
    assert keys.find(OUR_KEY.kid)[0] is fetched


@pytest.mark.parametrize("status", [200, 401, 302])
async def test_a_password_in_the_issuers_url_is_not_told(status: int) -> None:
    issuer = Issuer()
    issuer.status, issuer.body = status, b"no keys"
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(issuer)) as client:
        keys = JwksKeys("http://hubbub:sesame@auth/jwks.json", client)
        with capture_logs() as logs:
            await keys.look_again()

    [told] = logs
    assert (told["event"], told["url"]) == ("keys_not_fetched", "http://auth/jwks.json")
    assert keys.trouble is not None
    assert keys.trouble.startswith("http://auth/jwks.json: ")
    assert "sesame" not in f"{keys.trouble} {told}"


async def test_a_key_that_the_issuer_withdrew_is_trusted_no_more() -> None:
    issuer, clock = Issuer(), Clock()
    keys = jwks_of(issuer, clock)
    await keys.look_again()
    verifier = a_verifier(keys=keys)
    claims = await verifier.verify(a_token(some_claims()))

    newer = trusted_key(FOREIGN.public_key())
    issuer.body = json.dumps({"keys": [dict(public_jwk(newer))]}).encode()
    clock.now += 60
    await keys.look_again()

    with pytest.raises(InvalidToken, match="key"):
        verifier.confirm(claims)


async def test_keys_are_fetched_again_until_the_issuer_answers() -> None:
    issuer = Issuer()
    issuer.status = 503
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(issuer))
    keys = JwksKeys("http://auth/jwks.json", client, retry_seconds=0.01)

    async with running(keys.run):
        await eventually(lambda: issuer.asked >= 3)
        assert not keys.known
        issuer.status = 200
        await eventually(lambda: keys.known)


async def test_keys_of_other_kinds_and_uses_are_passed_over() -> None:
    issuer = Issuer()
    private = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(FOREIGN))
    issuer.body = json.dumps(
        {
            "keys": [
                {"kty": "oct", "k": base64url(SECRET), "kid": "a", "alg": "HS256"},
                dict(public_jwk(OUR_KEY)) | {"kid": "b", "use": "enc"},
                private | {"kid": "c", "kty": "EC"},
                dict(public_jwk(OUR_KEY)),
            ]
        }
    ).encode()
    keys = jwks_of(issuer)
    await keys.look_again()

    assert [keys.find(kid) for kid in "abc"] == [()] * 3
    assert keys.find(OUR_KEY.kid) == (OUR_KEY,)
