"""The verifier that settings describe, with issuers that serve their keys over HTTP."""

import asyncio
import gzip
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from structlog.testing import capture_logs

from hubbub_client.jetstream.clock import our_clock
from shared.runtime.settings import ServiceSettings
from shared.tokens.configured import open_verifier
from shared.tokens.keys import FixedKeys
from tests.fixtures.issuers import ec_key, jwk, jwks, rsa_key, signed
from tests.fixtures.tcp import a_tcp_server
from tests.fixtures.tokens import OUR_KEY, SECRET, a_token, refusal_of, some_claims
from tests.fixtures.waiting import eventually


@asynccontextmanager
async def serving(pages: Mapping[str, bytes], head: str = "") -> AsyncGenerator[str]:
    """A server with these pages; each answer has the head too."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # who asked is gone
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            writer.write(f"HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n".encode())
            writer.write(pages[request.split()[1]])
        writer.close()

    async with a_tcp_server(answer) as port:
        yield f"http://127.0.0.1:{port}"


def of(issuer: str, **claims: Any) -> dict[str, Any]:
    return {"iss": issuer, "aud": "chat", "sub": "ann", "exp": our_clock() + 60} | claims


async def test_each_of_a_list_is_believed_beside_those_of_the_single_variables() -> None:
    pages = {"/rsa": jwks(jwk(rsa_key(), "k")), "/ec": jwks(jwk(ec_key(), "k"))}
    async with serving(pages) as url:
        settings = ServiceSettings.model_validate(
            {
                "hmac_secret": SECRET,
                "issuers": [
                    {"issuer": "rsa", "jwks_url": f"{url}/rsa", "audience": "chat"},
                    {"issuer": "ec", "jwks_url": f"{url}/ec", "audience": "chat"},
                ],
            }
        )
        async with open_verifier(settings, own_keys=FixedKeys([OUR_KEY])) as verifier:
            moment = our_clock()
            ours = a_token(some_claims(iat=moment, exp=moment + 60))
            for token, user in (
                (ours, "7"),
                (signed(of("whoever", aud=None), SECRET, "HS256"), "ann"),
                (signed(of("rsa"), rsa_key(), "RS256", kid="k"), "ann"),
                (signed(of("ec"), ec_key(), "ES256", kid="k"), "ann"),
            ):
                assert (await verifier.judge(token)).user_id == user
            crossed = signed(of("ec"), rsa_key(), "RS256", kid="k")
            assert "key" in await refusal_of(crossed, verifier)


async def test_a_provider_may_be_the_only_issuer_without_a_list() -> None:
    async with serving({"/jwks": jwks(jwk(rsa_key(), "k"))}) as url:
        settings = ServiceSettings(
            jwks_url=f"{url}/jwks", token_issuer="idp", token_audience="chat",
            await_auth_service=False,
        )  # fmt: skip
        async with open_verifier(settings) as verifier:
            token = signed(of("idp"), rsa_key(), "RS256", kid="k")
            assert (await verifier.judge(token)).user_id == "ann"
            for changes in ({"aud": None}, {"aud": "other"}, {"exp": None}, {"iss": None}):
                changed = signed(of("idp", **changes), rsa_key(), "RS256", kid="k")
                await refusal_of(changed, verifier)


async def test_our_auth_service_signs_with_ed25519_alone() -> None:
    keys = jwks(jwk(rsa_key(), "k"), {"kty": "OKP"})
    async with serving({"/jwks": keys}) as url:
        with capture_logs() as logs:
            async with open_verifier(ServiceSettings(jwks_url=f"{url}/jwks")) as verifier:
                await eventually(lambda: "keys_not_fetched" in [each["event"] for each in logs])
                assert not verifier.ready
                token = signed(of("hubbub"), rsa_key(), "RS256", kid="k")
                assert "algorithm" in await refusal_of(token, verifier)


async def test_keys_that_come_packed_are_not_unpacked() -> None:
    pages = {"/jwks": gzip.compress(jwks(jwk(rsa_key(), "k")) + b" " * 10_000_000)}
    async with serving(pages, head="Content-Encoding: gzip\r\n") as url:
        entry = {"issuer": "idp", "audience": "chat", "jwks_url": f"{url}/jwks"}
        settings = ServiceSettings.model_validate({"issuers": [entry]})
        with capture_logs() as logs:
            async with open_verifier(settings):
                await eventually(lambda: "keys_not_fetched" in [each["event"] for each in logs])
    assert "not JSON" in logs[0]["reason"]
