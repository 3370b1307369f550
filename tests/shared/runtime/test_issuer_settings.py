"""HUBBUB_ISSUERS: what an entry may say, and what is wrong with one that can't be meant."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from shared.runtime.issuer_settings import LONGEST_TOKEN_SECONDS, read_public_keys
from shared.runtime.settings import ServiceSettings
from tests.fixtures.issuers import ec_key, pem, rsa_key

URL = "https://idp.example/jwks"
SECRET = "Geheimnis, lang genug für zweiunddreißig"
PRIVATE = ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)
CURVE = ec.generate_private_key(ec.SECP256K1())


def settings_of(*entries: dict[str, Any], **others: Any) -> ServiceSettings:
    return ServiceSettings.model_validate({"issuers": entries, **others})


@pytest.mark.parametrize("by", ["value", "file"])
def test_issuers_are_a_json_list_in_a_variable_or_a_file(
    by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = json.dumps([{"hmac_secret": SECRET}, {"issuer": "idp", "jwks_url": URL}])
    if by == "value":
        monkeypatch.setenv("HUBBUB_ISSUERS", text)
    else:
        (tmp_path / "issuers").write_text(text + "\n")
        monkeypatch.setenv("HUBBUB_ISSUERS_FILE", str(tmp_path / "issuers"))

    first, second = ServiceSettings().issuers

    assert [secret.get_secret_value() for secret in first.secrets] == [SECRET]
    assert first.issuer is None
    assert first.accepted == {"HS256"}
    assert second.issuer == "idp"
    assert second.accepted == {"EdDSA", "ES256", "RS256"}
    assert SECRET not in repr(ServiceSettings())


def test_a_pinned_key_is_for_the_algorithms_of_its_kind() -> None:
    two, one = settings_of(
        {"issuer": "a", "public_key": pem(rsa_key(), ec_key())},
        {"issuer": "b", "public_key": pem(rsa_key()), "algorithms": ["PS512"]},
    ).issuers

    assert two.accepted == {"RS256", "ES256"}
    assert one.accepted == {"PS512"}
    assert len(read_public_keys(pem(rsa_key(), ec_key()))) == 2


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({}, "give one of jwks_url"),
        ({"jwks_url": URL, "hmac_secret": SECRET}, "give one of jwks_url"),
        ({"hmac_secret": SECRET, "hmac_secrets": [SECRET]}, "give one of them"),
        ({"hmac_secret": ""}, "empty"),
        ({"hmac_secret": pem(ec_key())}, "a public key, which anybody has"),
        ({"hmac_secrets": [SECRET, "b", "c"]}, "at most 2"),
        ({"hmac_secret": SECRET, "algorithms": ["RS256"]}, "not of all of these kinds"),
        ({"jwks_url": URL, "algorithms": ["RS256", "HS256"]}, "not of all of these kinds"),
        ({"public_key": pem(rsa_key()), "algorithms": ["ES256"]}, "not of all of these kinds"),
        ({"public_key": pem(ec_key()), "algorithms": ["ES384"]}, "not of all of these kinds"),
        ({"jwks_url": URL, "algorithms": ["none"]}, "Input should be"),
        ({"jwks_url": "file:///etc/passwd"}, "not an address of HTTP"),
        ({"jwks_url": URL, "jwks_proxy": "socks5://proxy:1080"}, "not the URL of an HTTP proxy"),
        ({"public_key": "nonsense"}, "not a public key in PEM"),
        ({"public_key": PRIVATE}, "a private key"),
        ({"public_key": pem(SHORT)}, "less than 2048 bits"),
        ({"public_key": pem(CURVE)}, "not a public key of Ed25519"),
        ({"jwks_url": URL, "max_token_seconds": LONGEST_TOKEN_SECONDS + 1}, "less than or equal"),
        ({"jwks_url": URL, "max_token_seconds": 0}, "greater than 0"),
        ({"jwks_url": URL, "issuer": ""}, "at least 1 character"),
        ({"jwks_url": URL, "auds": "x"}, "Extra inputs"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value) or "empty",
)
def test_an_entry_that_cannot_be_meant_is_refused_without_being_repeated(
    entry: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        settings_of(entry)

    said = str(refused.value)
    assert problem in said
    for secret in (SECRET, "passwd", "nonsense", *PRIVATE.splitlines()[1:-1]):
        assert secret not in said


@pytest.mark.parametrize(
    ("entries", "others"),
    [
        ([{"hmac_secret": SECRET}, {"hmac_secret": "another"}], {}),
        ([{"hmac_secret": SECRET}], {"hmac_secret": SECRET}),
        ([{"issuer": "a", "jwks_url": URL}, {"issuer": "a", "public_key": pem(ec_key())}], {}),
        ([{"issuer": "hubbub", "jwks_url": URL}], {"jwks_url": URL}),
        ([{"issuer": "a", "jwks_url": URL}], {"jwks_url": URL, "token_issuer": "a"}),
    ],
)
def test_each_token_has_one_issuer(entries: list[dict[str, Any]], others: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is taken of another already"):
        settings_of(*entries, **others)


def test_issuers_of_one_name_may_sign_differently_and_one_may_have_none() -> None:
    settings_of(
        {"issuer": "a", "jwks_url": URL, "algorithms": ["RS256"]},
        {"issuer": "a", "public_key": pem(ec_key())},
        {"issuer": "a", "hmac_secret": SECRET},
        {"jwks_url": URL, "algorithms": ["RS256"]},
        hmac_secret=SECRET,
        jwks_url=URL,
    )


def test_revocations_are_kept_for_as_long_as_any_token_may_live() -> None:
    day, week = 86_400, 7 * 86_400

    assert settings_of(max_token_seconds=day).longest_token_seconds == day
    assert settings_of({"jwks_url": URL}, max_token_seconds=day).longest_token_seconds == day
    entries = [{"hmac_secret": SECRET, "max_token_seconds": 60},
               {"jwks_url": URL, "max_token_seconds": week}]  # fmt: skip
    assert settings_of(*entries, max_token_seconds=day).longest_token_seconds == week
    endless = {"issuer": "a", "hmac_secret": SECRET, "require_exp": False}
    assert settings_of(*entries, endless).longest_token_seconds == LONGEST_TOKEN_SECONDS


def test_what_may_be_a_mistake_is_told() -> None:
    assert (
        settings_of({"jwks_url": URL, "audience": "chat"}, {"hmac_secret": SECRET}).warnings == []
    )

    [audience] = settings_of({"jwks_url": URL}).warnings
    [endless] = settings_of({"hmac_secret": SECRET, "require_exp": False}).warnings
    [ours] = settings_of({"issuer": "hubbub", "jwks_url": URL, "audience": "hubbub"}).warnings

    assert "HUBBUB_ISSUERS.0 has no audience" in audience
    assert "without end" in endless
    assert "HUBBUB_JWKS_URL" in ours
