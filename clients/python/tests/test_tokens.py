"""Gateways accept the tokens, and what these say holds."""

import secrets
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from websockets.exceptions import ConnectionClosed

from hubbub_client.tokens import connection_token, subscription_token
from tests.fixtures.issuers import PrivateKey, an_issuer, ec_key, pem, rsa_key
from tests.fixtures.tokens import SECRET
from tests.gateway.chatting import RunningGateway, a_gateway
from tests.gateway.protocols.centrifuge.talking import talking

KEYS: dict[str, PrivateKey] = {
    "EdDSA": Ed25519PrivateKey.generate(),
    "RS256": rsa_key(),
    "ES256": ec_key(),
}


def private_pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def test_a_user_connects_with_a_token_signed_with_the_shared_secret(
    gateway: RunningGateway,
) -> None:
    user = uuid4()
    token = connection_token(user, secret=SECRET, name="Ann")
    async with gateway.socket(token=token, room=secrets.token_hex(6)) as tab:
        welcome = await tab.get()

    assert (welcome["type"], welcome["user_id"], welcome["name"]) == ("welcome", str(user), "Ann")


async def test_a_token_subscribes_its_connection_and_tells_others_of_it(
    gateway: RunningGateway,
) -> None:
    channel = f"chat:{secrets.token_hex(6)}"
    token = connection_token("auth0|5f", secret=SECRET, info={"team": 1}, channels=[channel])
    async with talking(gateway, token) as sdk:
        presence = await sdk.ask("presence", channel=channel)

    [client] = presence["presence"].values()
    assert (client["user"], client["conn_info"]) == ("auth0|5f", {"team": 1})


async def test_a_channel_that_asks_for_a_token_is_opened_to_its_user_by_one(
    gateway: RunningGateway,
) -> None:
    channel = f"$chat:{secrets.token_hex(6)}"
    token = subscription_token(1, channel, secret=SECRET, data={"n": 1})
    async with talking(gateway, connection_token(1, secret=SECRET)) as ann:
        without = await ann.ask("subscribe", channel=channel)
        subscribed = await ann.ask("subscribe", channel=channel, token=token)
    async with talking(gateway, connection_token(2, secret=SECRET)) as bob:
        with pytest.raises(ConnectionClosed, match="invalid token"):
            await bob.ask("subscribe", channel=channel, token=token)

    assert "error" in without
    assert subscribed["data"] == {"n": 1}


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_private_key_signs_as_its_kind_does(nats_url: str, algorithm: str) -> None:
    key = KEYS[algorithm]
    issuer = an_issuer(issuer="my-backend", audience="hubbub", public_key=pem(key))
    token = connection_token(
        7, key=private_pem(key), key_id="k1", issuer="my-backend", audience="hubbub"
    )
    async with a_gateway(nats_url, issuers=[issuer]) as gateway, talking(gateway, token) as sdk:
        history = await sdk.ask("history", channel="#7")

    assert "error" not in history

    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "k1", "typ": "JWT"}


def test_a_token_says_what_it_is_given_and_ends_when_it_should() -> None:
    token = connection_token(7, secret=SECRET, seconds=60, session="s", issuer="i", audience="a")
    claims: dict[str, Any] = jwt.decode(token, SECRET, ["HS256"], issuer="i", audience="a")
    times = {"iat": claims["iat"], "exp": claims["iat"] + 60}

    assert claims == {"sub": "7", "sid": "s", "iss": "i", "aud": "a"} | times


def test_a_token_is_of_somebody_and_signed_with_one_thing() -> None:
    odd = private_pem(ec.generate_private_key(ec.SECP256K1()))

    with pytest.raises(ValueError, match="user id"):
        connection_token("", secret=SECRET)
    for never in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="number of seconds"):
            connection_token(7, secret=SECRET, seconds=never)
    with pytest.raises(ValueError, match="secret or with a key"):
        connection_token(7)
    with pytest.raises(ValueError, match="secret or with a key"):
        subscription_token(7, "$a", secret=SECRET, key=odd)
    with pytest.raises(ValueError, match="curve"):
        connection_token(7, key=odd)
