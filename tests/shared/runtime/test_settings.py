from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from shared.runtime.environment import environment_names
from shared.runtime.settings import Bytes, ServiceSettings, read_settings


class ASettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="HUBBUB_DEMO_")

    max_frame_bytes: Bytes = 64


def test_a_value_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_DEMO_MAX_FRAME_BYTES", "9")
    monkeypatch.setenv("HUBBUB_NATS_URL", "nats://n:1")

    settings = ASettings()

    assert (settings.max_frame_bytes, settings.nats_url) == (9, "nats://n:1")


def test_a_value_comes_from_a_file_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("HUBBUB_HMAC_SECRET_FILE", str(tmp_path / "secret"))

    settings = ASettings()

    assert settings.hmac_secret is not None
    assert settings.hmac_secret.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_value_may_take_the_place_of_its_file_by_emptying_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUBBUB_NATS_URL", "nats://n:1")
    monkeypatch.setenv("HUBBUB_NATS_URL_FILE", "")
    monkeypatch.setenv("HUBBUB_HMAC_SECRET", "a secret of at least thirty-two bytes")

    assert read_settings(ServiceSettings).nats_url == "nats://n:1"


def test_a_limit_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_DEMO_MAX_FRAME_BYTES", "0")

    with pytest.raises(ValidationError):
        ASettings()


@pytest.mark.parametrize(
    "secret", ["", "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----", "ssh-rsa AAAA"]
)
def test_a_secret_that_anybody_has_is_refused(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("HUBBUB_HMAC_SECRET", secret)

    with pytest.raises(ValidationError, match=r"empty|public key"):
        ASettings()


@pytest.mark.parametrize("proxies", ["", "*", "10.0.0.7", "10.1.0.0/16, ::1,fd00::/8"])
def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch, proxies: str) -> None:
    monkeypatch.setenv("HUBBUB_FORWARDED_ALLOW_IPS", proxies)

    assert ASettings().forwarded_allow_ips == proxies


@pytest.mark.parametrize("proxies", ["edge", "10.1.2.3/16", "10.0.0.7,*", "10.0.0.7;10.0.0.8"])
def test_proxies_that_would_not_be_believed_are_refused(
    monkeypatch: pytest.MonkeyPatch, proxies: str
) -> None:
    monkeypatch.setenv("HUBBUB_FORWARDED_ALLOW_IPS", proxies)

    with pytest.raises(ValidationError, match="is neither an address nor a network"):
        ASettings()


@pytest.mark.parametrize(
    ("spelled", "level"),
    [("info", "INFO"), ("Debug", "DEBUG"), (" ERROR\n", "ERROR"), ("warn", "WARNING"),
     ("warning", "WARNING"), ("fatal", "CRITICAL")],
)  # fmt: skip
def test_a_log_level_may_be_spelled_as_other_servers_spell_it(
    monkeypatch: pytest.MonkeyPatch, spelled: str, level: str
) -> None:
    monkeypatch.setenv("HUBBUB_LOG_LEVEL", spelled)

    assert ASettings().log_level == level


@pytest.mark.parametrize("level", ["", "loud", "NOTSET", "20"])
def test_a_log_level_that_there_is_not_is_refused_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("HUBBUB_LOG_LEVEL", level)

    with pytest.raises(ValidationError, match="'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"):
        ASettings()


def test_the_names_are_known_for_the_documentation() -> None:
    names = environment_names(ASettings)

    assert {"HUBBUB_NATS_URL", "HUBBUB_DEMO_MAX_FRAME_BYTES"} <= set(names)
