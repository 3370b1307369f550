import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from auth_service.settings import AuthSettings
from auth_service.signing import TokenIssuer, make_signing_key
from hubbub_client.contracts.ids import UserId
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.claims import SessionId
from shared.tokens.configured import own_issuer
from shared.tokens.jwk import read_jwks
from shared.tokens.keys import FixedKeys
from tests.auth_service.people import SIGNING_KEY, a_signed_in_user

EC_KEY = generate_private_key(SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


def an_issuer(pem: str = SIGNING_KEY) -> TokenIssuer:
    return TokenIssuer(pem, issuer="hubbub", audience="hubbub", access_token_seconds=900)


async def test_a_token_carries_what_the_protocol_says_and_no_more() -> None:
    issuer = an_issuer()

    tokens = [issuer.issue(UserId("7"), "Ann", SessionId("s-1")) for _ in range(2)]

    header = jwt.get_unverified_header(tokens[0])
    assert header == {"alg": "EdDSA", "typ": "JWT", "kid": issuer.public_key.thumbprint}
    claims, other = (jwt.decode(token, options={"verify_signature": False}) for token in tokens)
    assert set(claims) == {"iss", "aud", "sub", "name", "sid", "jti", "iat", "exp"}
    assert (claims["sub"], claims["name"], claims["sid"]) == ("7", "Ann", "s-1")
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - datetime.now(UTC).timestamp()) < 5
    assert claims["jti"] != other["jti"]


async def test_tokens_are_believed_by_who_has_only_the_published_keys(
    client: httpx2.AsyncClient,
) -> None:
    tokens = await a_signed_in_user(client)

    answer = await client.get("/auth/.well-known/jwks.json")

    assert "max-age" in answer.headers["Cache-Control"]
    [key] = answer.json()["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}, "no private member"
    keys = FixedKeys(read_jwks(answer.content, algorithms=["EdDSA"]))
    issuer = own_issuer(keys, name="hubbub", audience="hubbub", max_token_seconds=900)
    verifier = TokenVerifier([issuer])
    assert (await verifier.verify(tokens["access_token"])).name == "Ann"


def test_a_signing_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "signing_key.pem"
    mask = os.umask(0)
    try:
        make_signing_key(path)
    finally:
        os.umask(mask)
    first = path.read_text()

    make_signing_key(path)

    assert path.read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["signing_key.pem"]
    an_issuer(first)


@pytest.mark.parametrize("pem", ["", "nonsense", EC_KEY.decode(), SIGNING_KEY[:60]])
def test_another_kind_of_key_is_refused_at_the_start_without_being_told(pem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        AuthSettings(database_url="sqlite:///x", signing_key=pem)

    problems = refused.value.errors(include_input=False, include_context=False)
    assert "not a" in problems[0]["msg"]
    assert not any(line in repr(problems) for line in pem.splitlines() if line)


def test_tokens_that_nobody_would_believe_are_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="HUBBUB_AUTH_ACCESS_TOKEN_SECONDS"):
        AuthSettings(
            database_url="sqlite:///x",
            signing_key=SIGNING_KEY,
            access_token_seconds=901,
            max_token_seconds=900,
        )
