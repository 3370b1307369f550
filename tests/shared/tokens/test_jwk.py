"""A set of keys as an issuer publishes it: which are trusted, and no odd one spoils the others."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from shared.tokens.jwk import BadKeySet, public_jwk, read_jwks, trusted_key
from tests.fixtures.issuers import ec_key, jwk, jwks, rsa_key
from tests.fixtures.tokens import FOREIGN, OUR_KEY, SECRET, base64url

ALL = ("EdDSA", "ES256", "RS256")
GOOD = dict(public_jwk(OUR_KEY))
OTHER = dict(public_jwk(trusted_key(FOREIGN.public_key())))


@pytest.mark.parametrize(
    "odd",
    [
        None, 5, "x", [], {}, {"crv": "Ed25519"}, {"kty": None}, {"kty": "LMS"},
        OTHER | {"kid": 5}, OTHER | {"x": 5}, OTHER | {"x": "AA"}, OTHER | {"x": "é"},
        OTHER | {"use": 5}, OTHER | {"use": "enc"}, OTHER | {"alg": "HS256"}, OTHER | {"alg": []},
        OTHER | {"key_ops": ["sign"]}, OTHER | {"key_ops": "verify"}, OTHER | {"kty": "oct"},
        OTHER | {"crv": "X25519"}, OTHER | {"x": "\ud800"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "small"},
    ],
    ids=lambda odd: ascii(odd)[:60],
)  # fmt: skip
def test_a_key_that_cannot_be_understood_takes_no_other_along(odd: object) -> None:
    for keys in ([GOOD, odd], [odd, GOOD]):
        assert read_jwks(json.dumps({"keys": keys}).encode()) == [OUR_KEY]
    with pytest.raises(BadKeySet):
        read_jwks(json.dumps({"keys": [odd]}).encode())


@pytest.mark.parametrize(
    "changes",
    [{"alg": "Ed25519"}, {"alg": None}, {"use": None}, {"key_ops": ["verify"]}, {"x5c": None},
     {"key_ops": ["sign", "verify"]}, {"iat": float("9" * 300), "new": {"member": [1]}}],
    ids=str,
)  # fmt: skip
def test_a_key_may_leave_out_what_it_is_for_and_say_more_than_we_know(
    changes: dict[str, Any],
) -> None:
    assert read_jwks(json.dumps({"keys": [GOOD | changes]}).encode()) == [OUR_KEY]


def test_a_number_of_any_length_spoils_no_set() -> None:
    odd = json.dumps(OTHER)[:-1] + f', "kid": {"9" * 5000}}}'

    assert read_jwks(f'{{"keys": [{odd}, {json.dumps(GOOD)}]}}'.encode()) == [OUR_KEY]


def test_a_key_without_a_name_is_known_by_its_thumbprint() -> None:
    unnamed = {name: value for name, value in GOOD.items() if name != "kid"}

    for written in (unnamed, unnamed | {"kid": None}):
        [key] = read_jwks(jwks(written))
        assert key.kid == OUR_KEY.thumbprint


def test_a_private_key_that_was_published_is_trusted_no_more() -> None:
    private = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(FOREIGN)) | {"kid": "leaked"}

    with capture_logs() as logs:
        keys = read_jwks(json.dumps({"keys": [private, GOOD]}).encode())

    assert keys == [OUR_KEY]
    assert [line["event"] for line in logs] == ["private_key_published"]
    assert private["d"] not in repr(logs)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[" * 60_000, b"[]", b"{}", b'"keys"', b'{"keys":{}}', b'{"keys":null}',
     b'{"keys":[]}', b'{"keys":[' + b"[" * 60_000],
    ids=lambda body: repr(body)[:20],
)  # fmt: skip
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(BadKeySet):
        read_jwks(body)


@pytest.mark.parametrize(
    "odd",
    [
        jwk(ec_key(), "e", alg="RS256"), jwk(rsa_key(), "r", alg="ES256"),
        jwk(rsa_key(), "r", alg="RSA-OAEP"), jwk(rsa_key(), "r", use="enc"),
        jwk(rsa_key(), "r", n=7), jwk(rsa_key(), "r", n=""), jwk(rsa_key(), "r", e="AA"),
        jwk(rsa_key(), "r", kty="oct", k=base64url(SECRET)), jwk(ec_key(), "e", crv="P-384"),
        jwk(ec_key(), "e", crv="secp256k1"), jwk(ec_key(), "e", x="AA"), jwk(ec_key(), "e", y=None),
        jwk(ec_key(), "e", x=jwk(ec_key("other"), "e")["x"]), jwk(ec_key(), "e", d="AA"),
    ],
    ids=lambda odd: ascii({name: odd[name] for name in odd if name not in "nxy"})[:60],
)  # fmt: skip
def test_a_key_of_a_provider_that_does_not_fit_is_passed_over(odd: dict[str, Any]) -> None:
    good = jwk(rsa_key("good"), "good")

    assert [key.kid for key in read_jwks(jwks(odd, good), algorithms=ALL)] == ["good"]


def test_an_rsa_key_that_is_too_short_is_passed_over() -> None:
    short = jwk(rsa_key(), "short", n=base64url(b"\xff" * 128))

    assert [key.kid for key in read_jwks(jwks(short, jwk(rsa_key(), "r")), algorithms=ALL)] == ["r"]


def test_a_key_is_for_the_algorithm_that_its_issuer_says() -> None:
    [any_rsa] = read_jwks(jwks(jwk(rsa_key(), "r")), algorithms=ALL)
    [only_ps] = read_jwks(jwks(jwk(rsa_key(), "r", alg="PS256")), algorithms=["PS256"])

    assert {"RS256", "PS512"} < any_rsa.algorithms
    assert only_ps.algorithms == {"PS256"}
    assert only_ps.thumbprint == any_rsa.thumbprint


def test_the_thumbprint_of_an_ed25519_key_is_that_of_the_standard() -> None:
    """The key and its thumbprint stand in RFC 8037, appendix A."""
    raw = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = trusted_key(Ed25519PrivateKey.from_private_bytes(raw).public_key())

    assert key.thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_thumbprint_of_an_rsa_key_is_that_of_the_standard() -> None:
    """The key and its thumbprint stand in RFC 7638, section 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJEC"
        "PebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Qvz"
        "qY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZ"
        "u0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}

    [read] = read_jwks(jwks(key), algorithms=ALL)

    assert read.thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
