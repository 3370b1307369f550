"""Signatures as such: what is taken, and that PyJWT as it comes would take it too."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.tokens.signatures import (
    BadSignature,
    checked_secret,
    checker,
    read_token,
)

SECRET = b"a secret that two services share, long enough"
OURS = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OUR_KEY = OURS.public_key().public_bytes_raw()
FOREIGN_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32).public_key().public_bytes_raw()
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point."""
SMALL_ORDER_POINTS = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]
"""Under some of them anybody's signature holds for any message, unless they are refused."""


def a_token(**header: Any) -> str:
    return jwt.api_jws.encode(b'{"sub":"7"}', OURS, "EdDSA", header or None)


def spelled(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def parted(token: str) -> tuple[bytes, bytes]:
    """What is signed, and the signature."""
    signed, _, signature = token.encode().rpartition(b".")
    return signed, base64.urlsafe_b64decode(signature + b"==")


def check(signed: bytes, signature: bytes, key: bytes = OUR_KEY) -> None:
    checker("EdDSA").check(f"{signed.decode()}.{spelled(signature).decode()}", key)


def test_what_the_owner_of_the_key_signed_is_taken() -> None:
    token = a_token(kid="k")

    assert read_token(token) == (("EdDSA", "k"), b'{"sub":"7"}')
    checker("EdDSA").check(token, OUR_KEY)


def test_the_example_of_the_standard_is_taken() -> None:
    """Source: RFC 8037, appendix A.4 and A.5."""
    key = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    token = (
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )

    checker("EdDSA").check(token, key)
    assert read_token(token).payload == b"Example of Ed25519 signing"


def test_what_somebody_else_signed_is_refused() -> None:
    with pytest.raises(BadSignature):
        checker("EdDSA").check(a_token(), FOREIGN_KEY)


def test_a_signature_of_another_length_is_refused() -> None:
    signed, signature = parted(a_token())
    for length in (0, 1, 32, 63):
        with pytest.raises(BadSignature):
            check(signed, signature[:length])
    with pytest.raises(BadSignature):
        check(signed, signature + b"\0")


@pytest.mark.parametrize("count", [1, 4, 8])
def test_a_signature_cannot_borrow_from_what_it_is_of(count: int) -> None:
    """Joined they are the very bytes that were signed."""
    algorithm = checker("EdDSA").algorithm
    signed, signature = parted(a_token())
    borrowed = signed[count:], signature + signed[:count]
    lent = signature[-count:] + signed, signature[:-count]

    assert algorithm.verify(signed, OUR_KEY, signature)
    for forged, its_signature in (borrowed, lent):
        assert its_signature + forged == signature + signed
        assert not algorithm.verify(forged, OUR_KEY, its_signature)


def test_the_same_signature_in_other_numbers_is_refused() -> None:
    """S + L is as good as S to the curve; whoever takes both takes two spellings of a token."""
    signed, signature = parted(a_token())
    point, scalar = signature[:32], int.from_bytes(signature[32:], "little")
    for times in range(1, 8):
        other = point + (scalar + times * ORDER).to_bytes(32, "little")
        with pytest.raises(BadSignature):
            check(signed, other)


@pytest.mark.parametrize("key", SMALL_ORDER_POINTS)
def test_under_a_key_of_small_order_nothing_holds(key: str) -> None:
    signed = spelled(b'{"alg":"EdDSA"}') + b"." + spelled(b"{}")
    for point in SMALL_ORDER_POINTS:
        for each in (bytes.fromhex(key), OUR_KEY):
            with pytest.raises(BadSignature):
                check(signed, bytes.fromhex(point) + bytes(32), each)


@settings(max_examples=300)
@given(st.data())
def test_what_is_taken_pyjwt_takes_too_and_reads_the_same(data: st.DataObject) -> None:
    algorithm, key = data.draw(st.sampled_from([("HS256", SECRET), ("EdDSA", OURS)]))
    header = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "kid": st.text(max_size=3) | st.none() | st.integers(),
                "crit": st.just(["exp"]),
                "b64": st.booleans(),
                "typ": st.text(max_size=3),
            },
        )
    )
    token = _signed_as_it_is({"alg": algorithm} | header, data.draw(st.binary()), algorithm, key)
    at = data.draw(st.integers(0, len(token)))
    put = data.draw(st.sampled_from(["", ".", "=", "A", "-", "+", "é", "\n", token[at : at + 1]]))
    changed = token[:at] + put + token[at + data.draw(st.integers(0, 1)) :]

    try:
        header_read, payload_read = read_token(changed)
        if algorithm == "EdDSA":
            checker("EdDSA").check(changed, OUR_KEY)
        else:
            checker("HS256").check(changed, checked_secret(SECRET.decode()))
    except BadSignature:
        return
    by_pyjwt = jwt.api_jws.decode_complete(
        changed, OURS.public_key() if algorithm == "EdDSA" else SECRET, algorithms=[algorithm]
    )
    assert payload_read == by_pyjwt["payload"]
    assert header_read == (algorithm, by_pyjwt["header"].get("kid"))


def _signed_as_it_is(header: dict[str, Any], payload: bytes, algorithm: str, key: Any) -> str:
    parts = [json.dumps(header).encode(), payload]
    text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    signer = jwt.get_algorithm_by_name(algorithm)
    signature = signer.sign(text.encode(), signer.prepare_key(key))
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
