"""What the operator may say about the application."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"proxy_connect_url": "app.example.com"}, "not a URL"),
        ({"proxy_connect_url": "ftp://app.example.com/"}, "not a URL"),
        ({"proxy_rpc_url": "http://user:secret@app.example.com/"}, "no user, password"),
        ({"proxy_headers": "Cookie, Transfer-Encoding"}, "not passed on"),
        ({"proxy_headers": "Cook ie"}, "no header's name"),
        ({"proxy_headers": "X-Emulated-Cookie"}, "stands for an emulated one"),
        ({"proxy_emulated_headers": "Host"}, "not passed on"),
        ({"proxy_static_headers": {"X-A": "a\nb"}}, "no header"),
        ({"proxy_static_headers": {"Content-Type": "x"}}, "not for us to say"),
        (
            {"proxy_static_headers": {"authorization": "x"}},
            "is in HUBBUB_GATEWAY_PROXY_HEADERS, too",
        ),
        ({"proxy_static_headers": {"X-Emulated-A": "x"}}, "stands for an emulated one"),
    ],
    ids=str,
)
def test_what_can_not_be_meant_is_refused_at_the_start(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem) as refused:
        GatewaySettings(**settings)
    assert "secret" not in str(refused.value).replace("X-Secret", "")


def test_lists_of_headers_are_words_with_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_GATEWAY_PROXY_HEADERS", "Cookie, X-Real-Ip,")
    monkeypatch.setenv("HUBBUB_GATEWAY_PROXY_STATIC_HEADERS", '{"X-Secret": "s"}')
    settings = GatewaySettings()
    assert settings.proxy_headers == ("Cookie", "X-Real-Ip")
    assert "'s'" not in repr(settings)


def test_an_application_that_can_not_know_who_calls_is_warned_about() -> None:
    url = "http://app.example.com/rpc"
    [warning] = GatewaySettings(proxy_rpc_url=url).warnings
    assert "PROXY_STATIC_HEADERS" in warning
    assert not GatewaySettings(proxy_rpc_url=url, proxy_static_headers={"X": "s"}).warnings


def test_a_deadline_beyond_that_of_the_sdks_is_warned_about() -> None:
    [warning] = GatewaySettings(rpc_over_bus=True, proxy_timeout_seconds=6).warnings
    assert "HUBBUB_GATEWAY_PROXY_TIMEOUT_SECONDS is 6" in warning
