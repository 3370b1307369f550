"""Several issuers beside each other: each is believed by its own keys, and by nobody else's."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.ids import ConnectionId, UserId
from shared.runtime.issuer_settings import LONGEST_TOKEN_SECONDS
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.claims import NEVER, Subscriber
from shared.tokens.errors import InvalidToken, KeysUnknown, TokenExpired
from shared.tokens.jwk import read_jwks, trusted_key
from shared.tokens.keys import FixedKeys, JwksKeys
from tests.fixtures.issuers import (
    an_issuer,
    claims_now,
    ec_key,
    jwk,
    jwks,
    pem,
    rsa_key,
    signed,
)
from tests.fixtures.tokens import (
    FOREIGN,
    MAX_TOKEN_SECONDS,
    NOW,
    OURS,
    SECRET,
    Clock,
    a_crafted_token,
    a_token,
    a_verifier,
    base64url,
    refusal_of,
    some_claims,
)

IDP, OTHER, PINNED = "https://idp.example/", "https://other.example/", "pinned"
FORMER_SECRET = "the secret before it, which is long enough too"
ALL = ("EdDSA", "ES256", "RS256")


def of_set(*keys: dict[str, Any]) -> FixedKeys:
    return FixedKeys(read_jwks(jwks(*keys), algorithms=ALL))


def all_kinds(**changes: Any) -> TokenVerifier:
    """Our auth service, two providers, one with a pinned key, and whoever has a secret."""
    more = [
        an_issuer(
            of_set(jwk(rsa_key(), "r"), jwk(ec_key(), "e"), jwk(FOREIGN, "ed")),
            issuer=IDP,
            audience=["chat", "feed"],
        ),
        an_issuer(
            of_set(jwk(rsa_key("other"), "r")),
            issuer=OTHER,
            user_claim="uid",
            algorithms=["RS256", "EdDSA"],
        ),
        an_issuer(issuer=PINNED, public_key=pem(ec_key("pinned"))),
        an_issuer(hmac_secrets=[SECRET, FORMER_SECRET], algorithms=["HS256", "HS512"]),
    ]
    return a_verifier(hmac_secret=None, more=more, **changes)


def of_idp(**changes: Any) -> dict[str, Any]:
    return claims_now(iss=IDP, aud="chat") | changes


GOOD: dict[str, Callable[[], str]] = {
    "ours": lambda: a_token(some_claims()),
    "RS256": lambda: signed(of_idp(), rsa_key(), "RS256", kid="r"),
    "ES256": lambda: signed(of_idp(), ec_key(), "ES256", kid="e"),
    "EdDSA of a provider": lambda: signed(of_idp(), FOREIGN, "EdDSA", kid="ed"),
    "one of two audiences": lambda: signed(of_idp(aud=["x", "feed"]), rsa_key(), "RS256", kid="r"),
    "a name used by two": lambda: signed(
        claims_now(iss=OTHER, uid="7"), rsa_key("other"), "RS256", kid="r"
    ),
    "a number as user": lambda: signed(
        claims_now(iss=OTHER, uid=7, sub=None), rsa_key("other"), "RS256", kid="r"
    ),
    "a pinned key": lambda: signed(claims_now(iss=PINNED), ec_key("pinned"), "ES256"),
    "a pinned key, called somehow": lambda: signed(
        claims_now(iss=PINNED), ec_key("pinned"), "ES256", kid="whatever"
    ),
    "the secret": lambda: signed(claims_now(), SECRET, "HS256"),
    "the former secret": lambda: signed(claims_now(), FORMER_SECRET, "HS256"),
    "the secret, another hash": lambda: signed(claims_now(), SECRET, "HS512"),
    "the secret, of a name": lambda: signed(claims_now(iss="somebody"), SECRET, "HS256"),
}


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
async def test_each_issuer_is_believed(make: Callable[[], str]) -> None:
    verifier, token = all_kinds(), make()

    claims = await verifier.verify(token)

    assert claims.user_id == "7"
    assert verifier.recall(token) is claims
    verifier.confirm(claims)


PUBLIC_KEY_OF_THE_PROVIDER = pem(rsa_key()).encode()
REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "no token": (lambda: "nonsense", "the token is not a signed JWT"),
    "alg none": (
        lambda: a_crafted_token({"alg": "none"}, of_idp()),
        "the token's algorithm is not accepted here",
    ),
    "alg that nobody has": (
        lambda: a_crafted_token({"alg": "HS384"}, claims_now(), secret=SECRET.encode()),
        "the token's algorithm is not accepted here",
    ),
    "alg that is no text": (
        lambda: a_crafted_token({"alg": ["RS256"]}, of_idp()),
        "the token's algorithm is not accepted here",
    ),
    "alg of another issuer": (
        lambda: signed(claims_now(iss=OTHER, uid="7"), ec_key(), "ES256", kid="e"),
        "the token's algorithm is not accepted of its issuer",
    ),
    "the provider's public key as a secret": (
        lambda: a_crafted_token(
            {"alg": "HS256", "kid": "r"}, of_idp(), secret=PUBLIC_KEY_OF_THE_PROVIDER
        ),
        "the token's signature is wrong",
    ),
    "claims that are no object": (
        lambda: a_crafted_token({"alg": "HS256"}, [], secret=SECRET.encode()),
        "the token's claims are not readable",
    ),
    "unknown issuer": (
        lambda: signed(claims_now(iss="https://evil.example/"), rsa_key(), "RS256", kid="r"),
        "the token is of an issuer that is not trusted here",
    ),
    "an issuer spelled otherwise": (
        lambda: signed(of_idp(iss=IDP.rstrip("/")), rsa_key(), "RS256", kid="r"),
        "the token is of an issuer that is not trusted here",
    ),
    "several issuers": (
        lambda: signed(of_idp(iss=[IDP, OTHER]), rsa_key(), "RS256", kid="r"),
        "the token is of an issuer that is not trusted here",
    ),
    "no issuer": (
        lambda: signed(of_idp(iss=None), rsa_key(), "RS256", kid="r"),
        "the token names no issuer (`iss`)",
    ),
    "no kid": (
        lambda: signed(of_idp(), rsa_key(), "RS256"),
        "the token names no key (`kid`)",
    ),
    "kid unknown": (
        lambda: signed(of_idp(), rsa_key(), "RS256", kid="theirs"),
        "the token's key is not one of its issuer's",
    ),
    "kid of another issuer": (
        lambda: signed(claims_now(iss=OTHER, uid="7"), FOREIGN, "EdDSA", kid="ed"),
        "the token's key is not one of its issuer's",
    ),
    "kid of another issuer, key of another issuer": (
        lambda: signed(claims_now(iss=OTHER, uid="7"), rsa_key(), "RS256", kid="r"),
        "the token's signature is wrong",
    ),
    "kid of a key for another algorithm": (
        lambda: signed(of_idp(), rsa_key(), "RS256", kid="e"),
        "the token's key is of another algorithm",
    ),
    "our own key under another's name": (
        lambda: signed(of_idp(), OURS, "EdDSA", kid="ed"),
        "the token's signature is wrong",
    ),
    "another secret": (
        lambda: signed(claims_now(), "a secret of somebody else, as long as ours", "HS256"),
        "the token's signature is wrong",
    ),
    "another pinned key": (
        lambda: signed(claims_now(iss=PINNED), ec_key(), "ES256"),
        "the token's signature is wrong",
    ),
    "audience": (
        lambda: signed(of_idp(aud="billing"), rsa_key(), "RS256", kid="r"),
        "the token is for another audience",
    ),
    "no audience": (
        lambda: signed(of_idp(aud=None), rsa_key(), "RS256", kid="r"),
        "the token lacks the claim `aud`",
    ),
    "expired": (
        lambda: signed(of_idp(exp=NOW - 312), rsa_key(), "RS256", kid="r"),
        "the token expired 312 s ago",
    ),
    "no end": (
        lambda: signed(of_idp(exp=None), rsa_key(), "RS256", kid="r"),
        "the token lacks the claim `exp`",
    ),
    "an end that is no time": (
        lambda: signed(of_idp(exp="soon"), rsa_key(), "RS256", kid="r"),
        "the token's `exp` is no time",
    ),
    "not yet": (
        lambda: signed(of_idp(nbf=NOW + 45), rsa_key(), "RS256", kid="r"),
        "the token is not valid yet, but in 45 s",
    ),
    "life too long": (
        lambda: signed(of_idp(exp=NOW + 90_000), rsa_key(), "RS256", kid="r"),
        "the token's lifetime is too long: 90000 s, and 3600 s are taken",
    ),
    "already over": (
        lambda: signed(of_idp(expire_at=NOW - 5), rsa_key(), "RS256", kid="r"),
        "what the token grants expired 5 s ago",
    ),
    "no user": (
        lambda: signed(of_idp(sub=None), rsa_key(), "RS256", kid="r"),
        "the token names no user",
    ),
    "no user under the claim that names it": (
        lambda: signed(claims_now(iss=OTHER), rsa_key("other"), "RS256", kid="r"),
        "the token lacks the claim `uid`, which names the user",
    ),
    "a user that can't be one": (
        lambda: signed(claims_now(iss=OTHER, uid=["7"]), rsa_key("other"), "RS256", kid="r"),
        "the token's `uid` is not a user id",
    ),
    "a subject that can't be one": (
        lambda: signed(of_idp(sub="a b"), rsa_key(), "RS256", kid="r"),
        "the token's `sub` is not a user id",
    ),
    "a claim that ours always have": (
        lambda: a_token(some_claims(sid=None)),
        "the token lacks the claim `sid`",
    ),
    "a subscription token": (
        lambda: signed(of_idp(channel="news"), rsa_key(), "RS256", kid="r"),
        "the token is for a subscription, not for a connection",
    ),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
async def test_a_refusal_says_why_in_one_sentence(make: Callable[[], str], sentence: str) -> None:
    verifier, token = all_kinds(), make()

    assert await refusal_of(token, verifier) == sentence
    assert not any(part in sentence for part in token.split(".") if len(part) > 3)


async def test_a_secret_that_is_no_longer_listed_is_no_longer_believed() -> None:
    before = a_verifier(hmac_secret=None, more=[an_issuer(hmac_secrets=[SECRET, FORMER_SECRET])])
    after = a_verifier(hmac_secret=None, more=[an_issuer(hmac_secret=SECRET)])
    token = signed(claims_now(), FORMER_SECRET, "HS256")

    claims = await before.verify(token)

    assert "signature" in await refusal_of(token, after)
    with pytest.raises(InvalidToken, match="key"):
        after.confirm(claims)


@pytest.mark.parametrize(
    ("entry", "longest"),
    [({}, MAX_TOKEN_SECONDS), ({"max_token_seconds": 86_400}, 86_400)],
    ids=["as others' do", "as its entry says"],
)
async def test_tokens_live_as_long_as_their_issuers_entry_says(
    entry: dict[str, Any], longest: float
) -> None:
    verifier = a_verifier(hmac_secret=None, more=[an_issuer(hmac_secret=SECRET, **entry)])

    await verifier.verify(signed(claims_now(exp=NOW + longest), SECRET, "HS256"))
    too_long = signed(claims_now(exp=NOW + longest + 1), SECRET, "HS256")

    assert "lifetime" in await refusal_of(too_long, verifier)


async def test_a_token_without_end_is_taken_only_of_an_issuer_that_may_give_them() -> None:
    endless = an_issuer(hmac_secret=SECRET, require_exp=False)
    clock = Clock()
    verifier = a_verifier(hmac_secret=None, more=[endless], now=clock)
    token = signed({"sub": "7"}, SECRET, "HS256")

    claims = await verifier.verify(token)
    clock.now += 10 * LONGEST_TOKEN_SECONDS

    assert (claims.expires_at, claims.token_expires_at) == (NEVER, NEVER)
    verifier.confirm(claims)
    assert await verifier.verify(token) is claims
    with pytest.raises(TokenExpired):
        await verifier.verify(signed(claims_now(), SECRET, "HS256"))
    assert "`exp`" in await refusal_of(token)


async def test_a_key_that_one_issuer_withdrew_is_not_saved_by_another_who_has_it() -> None:
    class Withdrawn(FixedKeys):
        def withdraw(self) -> None:
            super().__init__([])

    keys = Withdrawn([trusted_key(FOREIGN.public_key(), kid="k")])
    verifier = a_verifier(
        more=[
            an_issuer(keys, issuer=IDP, algorithms=["EdDSA"]),
            an_issuer(issuer=PINNED, public_key=pem(FOREIGN)),
        ]
    )
    token = signed(claims_now(iss=IDP), FOREIGN, "EdDSA", kid="k")
    claims = await verifier.verify(token)

    keys.withdraw()

    with pytest.raises(InvalidToken, match="key"):
        verifier.confirm(claims)
    assert verifier.recall(token) is None


def test_two_issuers_may_not_take_the_same_tokens() -> None:
    two = [an_issuer(issuer=IDP, public_key=pem(key)) for key in (OURS, FOREIGN)]

    with pytest.raises(ValueError, match="two issuers of one name"):
        a_verifier(more=two)


class Provider:
    """Serves a JWKS, and counts how often it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.body = jwks(*keys)
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


@asynccontextmanager
async def keys_of(provider: Provider, clock: Clock) -> AsyncGenerator[JwksKeys]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(provider)) as client:
        yield JwksKeys("http://p/jwks", client, algorithms=ALL, monotonic=clock)


async def test_only_the_provider_that_a_token_names_is_asked_for_its_key_and_not_for_each() -> None:
    clock = Clock()
    idp, other = Provider(jwk(rsa_key(), "r")), Provider(jwk(rsa_key("other"), "r"))
    async with keys_of(idp, clock) as keys, keys_of(other, clock) as others:
        verifier = a_verifier(more=[an_issuer(keys, issuer=IDP), an_issuer(others, issuer=OTHER)])
        await keys.look_again()
        await others.look_again()
        clock.now += 60

        for number in range(20):
            token = signed(claims_now(iss=IDP), rsa_key("new"), "RS256", kid=f"guess-{number}")
            assert "key" in await refusal_of(token, verifier)
        assert (idp.asked, other.asked) == (2, 1)

        idp.body = jwks(jwk(rsa_key("new"), "n"))
        clock.now += 60
        token = signed(claims_now(iss=IDP), rsa_key("new"), "RS256", kid="n")
        assert (await verifier.verify(token)).user_id == "7"
        assert (idp.asked, other.asked) == (3, 1)


async def test_while_one_providers_keys_are_unknown_the_others_tokens_are_judged() -> None:
    keys = FixedKeys([])
    verifier = a_verifier(more=[an_issuer(keys, issuer=IDP)])

    assert verifier.ready
    await verifier.verify(a_token(some_claims()))
    with pytest.raises(KeysUnknown):
        await verifier.verify(signed(claims_now(iss=IDP), rsa_key(), "RS256", kid="r"))
    with pytest.raises(KeysUnknown):
        await a_verifier(keys=None, hmac_secret=None, more=[an_issuer(keys, issuer=IDP)]).verify(
            signed(claims_now(iss=IDP), rsa_key(), "RS256", kid="r")
        )


def test_a_key_tells_nothing_of_its_secret() -> None:
    issuer = an_issuer(hmac_secret=SECRET)

    assert SECRET not in repr(issuer.keys.find("")) + repr(issuer.rules)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
headers = st.fixed_dictionaries(
    {"alg": st.sampled_from(["EdDSA", "RS256", "ES256", "HS256", "HS512", "none"]) | json_values},
    optional={"kid": st.sampled_from(["r", "e", "ed"]) | json_values, "crit": json_values},
)
claim_names = st.sampled_from(
    ["iss", "aud", "sub", "uid", "exp", "iat", "nbf", "sid", "channel", "client", "info", "b64info",
     "subs", "channels", "override", "data", "expire_at"]
)  # fmt: skip
claims_like = st.dictionaries(
    claim_names, st.sampled_from([IDP, OTHER, PINNED, "chat", "7", NOW + 60]) | json_values
)
SOMEBODY = Subscriber(UserId("7"), ConnectionId("c"), None)
VERIFIER = all_kinds()


async def judged(token: str) -> None:
    """Whatever it is, it is taken, or refused in our words."""
    for ask in (VERIFIER.verify(token), VERIFIER.verify_subscription(token, SOMEBODY)):
        said = ""
        try:
            await ask
        except (InvalidToken, Unavailable) as refusal:
            said = str(refusal)
        assert not any(part in said for part in token.split(".") if len(part) > 12)


@given(headers, claims_like)
async def test_any_header_and_claims_that_nobody_signed_are_refused(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    token = a_crafted_token(header, claims)
    await judged(token)
    await refusal_of(token, VERIFIER)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid", "given_by"),
    [(rsa_key(), "RS256", "r", IDP), (ec_key(), "ES256", "e", IDP), (SECRET, "HS256", None, None)],
    ids=["RS256", "ES256", "HS256"],
)
@given(claims=claims_like)
async def test_any_claims_that_an_issuer_signed_are_taken_or_refused(
    key: Any, algorithm: str, kid: str | None, given_by: str | None, claims: dict[str, Any]
) -> None:
    for told in (claims, claims_now(iss=given_by, aud="chat") | claims):
        await judged(signed(told, key, algorithm, kid=kid))


@given(st.binary(max_size=300), st.sampled_from(["RS256", "ES256", "EdDSA", "HS256"]))
async def test_any_signature_is_refused(signature: bytes, algorithm: str) -> None:
    kid = {"RS256": "r", "ES256": "e", "EdDSA": "ed"}.get(algorithm)
    head = base64url(json.dumps({"alg": algorithm} | ({"kid": kid} if kid else {})))
    await refusal_of(
        f"{head}.{base64url(json.dumps(of_idp()))}.{base64url(signature or b'x')}", VERIFIER
    )
