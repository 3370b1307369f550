import contextlib
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hubbub_client.contracts.ids import UserId
from shared.tokens.access_tokens import MAX_TOKEN_BYTES
from shared.tokens.claims import Claims, shown_name
from shared.tokens.errors import InvalidToken
from shared.tokens.jwk import TrustedKey, public_jwk, trusted_key
from shared.tokens.keys import FixedKeys
from tests.fixtures.tokens import (
    FOREIGN,
    MAX_TOKEN_SECONDS,
    NOW,
    OUR_KEY,
    OURS,
    SECRET,
    Clock,
    a_crafted_token,
    a_foreign_token,
    a_token,
    a_verifier,
    base64url,
    refusal_of,
    some_claims,
)
from tests.fixtures.user_ids import user_ids


async def test_a_token_of_our_issuer_says_who_it_stands_for() -> None:
    claims = await a_verifier().verify(a_token(some_claims()))

    assert (claims.user_id, claims.name, claims.session_id) == ("7", "Ann", "s-1")
    assert (claims.issued_at, claims.expires_at) == (NOW - 10, NOW + 890)


async def test_a_token_of_a_foreign_hmac_issuer_needs_only_a_subject_and_an_expiry() -> None:
    claims = await a_verifier().verify(a_foreign_token({"sub": "7", "exp": NOW + 60}))

    assert (claims.user_id, claims.name, claims.session_id) == ("7", "User 7", None)
    assert claims.issued_at is None


async def test_a_short_hmac_secret_works_without_a_warning_at_each_token() -> None:
    verifier = a_verifier(hmac_secret="secret")

    token = a_foreign_token({"sub": "7", "exp": NOW + 60, "name": "Bo"}, secret="secret")

    assert (await verifier.verify(token)).name == "Bo"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, "HS512", "ES256", ["HS256"], {}])
async def test_an_algorithm_other_than_our_two_is_refused(alg: object) -> None:
    header = {"alg": alg, "kid": OUR_KEY.kid}

    assert "algorithm" in await refusal_of(a_crafted_token(header, some_claims()))


async def test_the_algorithm_may_be_called_by_its_newer_name() -> None:
    """RFC 9864 section 2.2."""
    signed = f"{base64url(json.dumps({'alg': 'Ed25519', 'kid': OUR_KEY.kid}))}."
    signed += base64url(json.dumps(some_claims()))
    token = f"{signed}.{base64url(OURS.sign(signed.encode()))}"

    assert (await a_verifier().verify(token)).user_id == "7"
    assert "algorithm" in await refusal_of(token, a_verifier(keys=None))


async def test_of_two_keys_of_one_name_either_is_trusted_and_no_third() -> None:
    keys = FixedKeys([trusted_key(key.public_key(), kid="k") for key in (OURS, FOREIGN)])
    third = Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)

    for key in (OURS, FOREIGN):
        claims = await a_verifier(keys=keys).verify(a_token(some_claims(), key=key, kid="k"))
        assert claims.key == trusted_key(key.public_key()).thumbprint
    forged = a_token(some_claims(), key=third, kid="k")
    assert "signature" in await refusal_of(forged, a_verifier(keys=keys))


@pytest.mark.parametrize("as_secret", ["raw", "pem", "jwk", "base64url"])
async def test_our_public_key_does_not_pass_for_an_hmac_secret(as_secret: str) -> None:
    public = OURS.public_key()
    secret = {
        "raw": public.public_bytes_raw(),
        "pem": public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "jwk": json.dumps(dict(public_jwk(OUR_KEY))).encode(),
        "base64url": base64url(public.public_bytes_raw()).encode(),
    }[as_secret]
    forged = a_crafted_token({"alg": "HS256", "kid": OUR_KEY.kid}, some_claims(), secret=secret)

    assert "signature" in await refusal_of(forged)
    assert "algorithm" in await refusal_of(forged, a_verifier(hmac_secret=None))


async def test_a_token_signed_with_a_key_of_somebody_else_is_refused() -> None:
    assert "signature" in await refusal_of(a_token(some_claims(), key=FOREIGN))
    assert "key" in await refusal_of(a_token(some_claims(), key=FOREIGN, kid="theirs"))
    assert "key" in await refusal_of(a_token(some_claims(), kid=None))


async def test_a_token_cannot_bring_its_own_key() -> None:
    jwk = dict(public_jwk(trusted_key(FOREIGN.public_key())))
    headers = {"kid": "theirs", "jwk": jwk, "jku": "http://127.0.0.1:1/keys"}
    token = jwt.api_jws.encode(json.dumps(some_claims()).encode(), FOREIGN, "EdDSA", headers)

    assert "key" in await refusal_of(token)


async def test_a_changed_token_is_refused() -> None:
    header, payload, signature = a_token(some_claims()).split(".")
    other = base64url(json.dumps(some_claims(sub="8")))

    assert "signature" in await refusal_of(f"{header}.{other}.{signature}")
    assert "signature" in await refusal_of(f"{header}.{payload}.{signature[:-8]}AAAAAAAA")


async def test_each_family_needs_its_own_key() -> None:
    own, foreign = a_token(some_claims()), a_foreign_token({"sub": "7", "exp": NOW + 60})

    assert "algorithm" in await refusal_of(own, a_verifier(keys=None))
    assert "algorithm" in await refusal_of(foreign, a_verifier(hmac_secret=None))
    assert not a_verifier(keys=None, hmac_secret=None).ready


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "elsewhere"}, {"iss": ["hubbub"]}, {"aud": "elsewhere"}, {"aud": ["x", "y"]},
        {"aud": 7}, {"exp": NOW}, {"exp": NOW - 1}, {"exp": str(NOW + 60)}, {"exp": True},
        {"exp": 1e400}, {"exp": float("nan")}, {"exp": NOW + MAX_TOKEN_SECONDS},
        {"exp": 10**30}, {"iat": NOW + 60}, {"nbf": NOW + 60}, {"iat": "yesterday"},
        {"sid": ""}, {"sid": "s" * 65}, {"sid": 5}, {"jti": ""},
    ],
    ids=str,
)  # fmt: skip
async def test_a_token_with_an_unfit_claim_is_refused(changes: dict[str, Any]) -> None:
    await refusal_of(a_token(some_claims(**changes)))


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "sid", "jti", "iat", "exp"])
async def test_our_own_tokens_carry_every_claim(claim: str) -> None:
    await refusal_of(a_token(some_claims(**{claim: None})))


@pytest.mark.parametrize("claim", ["sub", "exp"])
async def test_a_foreign_token_lacks_no_subject_and_no_expiry(claim: str) -> None:
    claims = {"sub": "7", "exp": NOW + 60}
    del claims[claim]

    await refusal_of(a_foreign_token(claims))


async def test_a_foreign_token_for_another_audience_is_refused() -> None:
    claims = {"sub": "7", "exp": NOW + 60, "aud": "elsewhere"}

    assert "audience" in await refusal_of(a_foreign_token(claims))


async def test_a_foreign_token_that_lives_too_long_is_refused() -> None:
    claims = {"sub": "7", "exp": NOW + MAX_TOKEN_SECONDS + 1}

    assert "lifetime" in await refusal_of(a_foreign_token(claims))
    late = a_foreign_token(claims | {"exp": NOW + 60, "iat": NOW + 59 - MAX_TOKEN_SECONDS})
    assert "lifetime" in await refusal_of(late)


@pytest.mark.parametrize(
    "sub",
    ["", " ", " 7", "7 ", "7\n", "\u0667", "a b", "ä", "\x7f", "9" * 129, 7, None, ["7"], True],
)
async def test_a_subject_that_is_no_user_id_is_refused(sub: object) -> None:
    await refusal_of(a_foreign_token({"sub": sub, "exp": NOW + 60}))


@given(user_ids)
async def test_any_user_id_is_a_subject(user_id: UserId) -> None:
    claims = await a_verifier().verify(a_foreign_token({"sub": user_id, "exp": NOW + 60}))

    assert claims.user_id == user_id
    assert claims.name == f"User {user_id}"[:64]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("  Ann \t", "Ann"), ("A\0n\x1bn\u2028", "Ann"), ("\u202eevil\u2066", "evil"),
        ("x" * 100, "x" * 64), ("", "User 7"), ("\n\n", "User 7"), (None, "User 7"),
        (17, "User 7"), ({"a": 1}, "User 7"), ("Zoë 🦊", "Zoë 🦊"),
    ],
)  # fmt: skip
async def test_a_name_is_made_fit_to_be_shown(name: object, shown: str) -> None:
    token = a_foreign_token({"sub": "7", "exp": NOW + 60, "name": name})

    assert (await a_verifier().verify(token)).name == shown


@given(st.text(st.characters(exclude_categories=[])))
def test_a_shown_name_is_short_and_shown_again_as_it_is(name: str) -> None:
    shown = shown_name(name)

    assert len(shown) <= 64
    assert shown_name(shown) == shown
    assert "\0" not in shown
    shown.encode()


async def test_a_token_is_measured_before_it_is_parsed() -> None:
    claims = some_claims(padding="x" * MAX_TOKEN_BYTES)

    assert await refusal_of(a_token(claims)) == "the token is not a signed JWT"


async def test_a_refusal_holds_no_part_of_the_token() -> None:
    token = a_token(some_claims(exp="seven", name="Hedwig"))

    with pytest.raises(InvalidToken) as refused:
        await a_verifier().verify(token)

    told = repr(refused.value) + repr(refused.value.__cause__)
    assert not any(part in told for part in [*token.split("."), "seven", "Hedwig"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
header_like = json_values | st.fixed_dictionaries(
    {"alg": st.sampled_from(["EdDSA", "Ed25519", "HS256", "none"]) | json_values},
    optional={"kid": json_values, "b64": json_values, "crit": json_values, "typ": json_values},
)


@given(st.text(st.characters(exclude_categories=[])) | st.binary().map(lambda b: b.decode("latin")))
async def test_any_text_as_a_token_is_an_invalid_token(text: str) -> None:
    await refusal_of(text)


@given(header_like, json_values)
async def test_any_header_and_any_unsigned_payload_are_an_invalid_token(
    header: object, claims: object
) -> None:
    await refusal_of(a_crafted_token(header, claims))


@given(st.binary(max_size=200), st.binary(max_size=200))
async def test_any_bytes_within_a_token_are_an_invalid_token(header: bytes, payload: bytes) -> None:
    await refusal_of(f"{base64url(header)}.{base64url(payload)}.{base64url(b'x')}")


@given(json_values | st.dictionaries(st.sampled_from(["sub", "exp", "iat", "aud"]), json_values))
async def test_any_claims_that_the_issuer_signed_are_read_or_refused(claims: object) -> None:
    token = a_foreign_token(claims)  # type: ignore[arg-type]

    with contextlib.suppress(InvalidToken):
        assert (await a_verifier().verify(token)).user_id


async def test_deeply_nested_json_is_an_invalid_token() -> None:
    deep = "[" * 2900

    await refusal_of(f"{base64url(deep)}.{base64url(deep)}.x")
    payload = base64url(deep)
    signed = f"{base64url(json.dumps({'alg': 'HS256'}))}.{payload}"
    signature = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    await refusal_of(f"{signed}.{base64url(signature)}")


class CountedKeys(FixedKeys):
    """Keys that can be withdrawn, and count how often one was needed."""

    def __init__(self, *keys: TrustedKey) -> None:
        super().__init__(keys)
        self.asked = 0

    def find(self, kid: str) -> Sequence[TrustedKey]:
        self.asked += 1
        return super().find(kid)

    def become(self, *keys: TrustedKey) -> None:
        super().__init__(keys)


async def test_a_token_that_was_verified_before_needs_no_key_the_next_time() -> None:
    keys = CountedKeys(OUR_KEY)
    verifier, token = a_verifier(keys=keys), a_token(some_claims())
    assert verifier.recall(token) is None

    claims = await verifier.verify(token)

    assert verifier.recall(token) is claims
    assert await verifier.verify(token) is claims
    assert keys.asked == 1


@pytest.mark.parametrize("token", ["", "a.b.c", "\udcff", "x" * (MAX_TOKEN_BYTES + 1)])
async def test_what_was_refused_is_not_remembered(token: str) -> None:
    verifier = a_verifier()

    await refusal_of(token, verifier)

    assert verifier.recall(token) is None
    assert verifier.remembered == 0


async def test_a_remembered_token_expires_all_the_same() -> None:
    clock = Clock()
    verifier, token = a_verifier(now=clock), a_token(some_claims())
    claims = await verifier.verify(token)

    clock.now = claims.expires_at

    with pytest.raises(InvalidToken, match="expired"):
        verifier.confirm(claims)
    assert verifier.recall(token) is None
    assert verifier.remembered == 0
    assert "expired" in await refusal_of(token, verifier)


async def test_claims_are_confirmed_past_their_end_for_as_long_as_is_granted() -> None:
    clock = Clock()
    verifier = a_verifier(now=clock)
    claims = await verifier.verify(a_token(some_claims()))

    clock.now = claims.expires_at + 24

    verifier.confirm(claims, grace_seconds=25)
    clock.now += 1
    with pytest.raises(InvalidToken, match="expired"):
        verifier.confirm(claims, grace_seconds=25)


async def test_a_remembered_token_falls_with_its_key() -> None:
    keys = CountedKeys(OUR_KEY)
    verifier, token = a_verifier(keys=keys), a_token(some_claims())
    claims = await verifier.verify(token)

    keys.become(trusted_key(FOREIGN.public_key(), kid=OUR_KEY.kid))

    with pytest.raises(InvalidToken, match="key"):
        verifier.confirm(claims)
    assert verifier.recall(token) is None
    assert verifier.remembered == 0
    assert "signature" in await refusal_of(token, verifier)


async def test_claims_that_another_hmac_secret_vouched_for_are_not_confirmed() -> None:
    token = a_foreign_token({"sub": "7", "exp": NOW + 60})
    claims = await a_verifier().verify(token)

    for verifier in (a_verifier(hmac_secret="another one"), a_verifier(hmac_secret=None)):
        with pytest.raises(InvalidToken, match="key"):
            verifier.confirm(claims)


async def test_claims_that_nothing_vouches_for_are_not_confirmed() -> None:
    claims = Claims(UserId("7"), "Ann", None, None, expires_at=NOW + 60)

    for verifier in (a_verifier(), a_verifier(hmac_secret=None), a_verifier(keys=None)):
        with pytest.raises(InvalidToken, match="key"):
            verifier.confirm(claims)


async def test_so_many_tokens_are_remembered_and_no_more() -> None:
    verifier = a_verifier(remembered_tokens=3)

    for number in range(1, 10):
        await verifier.verify(a_foreign_token({"sub": str(number), "exp": NOW + 60}))

    assert verifier.remembered == 3


async def test_a_verifier_that_is_to_remember_nothing_verifies_each_time() -> None:
    keys = CountedKeys(OUR_KEY)
    verifier, token = a_verifier(keys=keys, remembered_tokens=0), a_token(some_claims())

    await verifier.verify(token)
    await verifier.verify(token)

    assert keys.asked == 2


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("family", ["own", "foreign"])
async def test_a_token_is_taken_in_one_spelling_only(family: str, part: int) -> None:
    token = a_token(some_claims()) if family == "own" else a_foreign_token(some_claims())
    parts = token.split(".")
    for spelled in (parts[part] + "=", parts[part] + "==", parts[part][:-1] + "+", "%41"):
        await refusal_of(".".join([*parts[:part], spelled, *parts[part + 1 :]]))
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(parts[2][-1])
    other = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ 1]
    await refusal_of(f"{parts[0]}.{parts[1]}.{parts[2][:-1]}{other}")


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"kid": 7},
        {"kid": None},
    ],
    ids=str,
)
async def test_a_header_that_asks_for_what_we_do_not_know_is_refused(
    header: dict[str, Any],
) -> None:
    full = {"alg": "HS256", "typ": "JWT"} | header

    await refusal_of(a_crafted_token(full, some_claims(), secret=SECRET.encode()))


@pytest.mark.parametrize(
    ("secret", "problem"),
    [("", "empty"), ("-----BEGIN PUBLIC KEY-----\nMCo=\n-----END PUBLIC KEY-----", "public key")],
)
def test_a_secret_that_anybody_has_is_refused_at_the_start(secret: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        a_verifier(hmac_secret=secret)
