"""What `hubbub check-config` says of a gateway's settings."""

import os

import pytest

from hubbub.check_config import problems_of, warnings_of

SECRET = "a secret that is long enough for a test"
SILENT = (
    "says what is allowed, and nothing of subscribing: any signed-in user may,"
    " unless allow_subscribe_for_client is false"
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the run of the tests itself is told by."""
    for name in [each for each in os.environ if each.startswith("HUBBUB_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        (
            '{"chat": {"history_ttl": "5 minutes", "histroy": true}}',
            [
                "chat.history_ttl: neither a number of seconds nor a duration such as 300s or"
                " 1h30m",
                "chat.histroy: no such option",
            ],
        ),
        ('{"chat": {"publish": "all"}}', ["chat.publish: Input should be 'users' or 'services'"]),
        ('{"chat": {"join_leave": true}}', ["chat: join_leave needs presence"]),
        (
            '{"chat": {}, "x": {"channel_regex": "("}}',
            [
                "x.channel_regex: no regular expression: missing ), unterminated subpattern"
                " at position 0"
            ],
        ),
        ('{"chat": {"proxy_subscribe": true}}', ["chat.proxy_subscribe: no such option"]),
        ('{"a b": {}}', ["no channel begins with 'a b'"]),
        ('{"chat": {"ephemeral": true}}', ["chat: what is said in rooms of /ws/chat is stored"]),
        (
            '{"typing": {"ephemeral": true, "force_recovery": true}}',
            ["typing: force_recovery needs history"],
        ),
        (
            '{"chat": sesame',
            ["no JSON: Expecting value: line 1 column 10 (char 9)"],
        ),
    ],
)
def test_what_is_wrong_with_an_option_is_told_by_the_variable_and_the_place_in_it(
    monkeypatch: pytest.MonkeyPatch, value: str, problems: list[str]
) -> None:
    monkeypatch.setenv("HUBBUB_HMAC_SECRET", SECRET)
    monkeypatch.setenv("HUBBUB_GATEWAY_NAMESPACES", value)

    assert problems_of("gateway") == [f"HUBBUB_GATEWAY_NAMESPACES: {each}" for each in problems]


@pytest.mark.parametrize("name", ["HUBBUB_HMAC_SECRET", "HUBBUB_API_KEY"])
@pytest.mark.parametrize("end", [" ", "\r", "\n"])
def test_a_secret_that_ends_with_what_nobody_sees_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, name: str, end: str
) -> None:
    monkeypatch.setenv("HUBBUB_HMAC_SECRET", SECRET)
    monkeypatch.setenv(name, SECRET + end)

    assert problems_of("gateway") == []
    assert warnings_of("gateway") == [
        f"{name} ends with a space or a line's end, which counts as a part of it"
    ]


@pytest.mark.parametrize(
    ("name", "value", "doubts"),
    [
        ("CLIENT_INSECURE", "true", ["HUBBUB_GATEWAY_CLIENT_INSECURE is set: "]),
        ("CLIENT_INSECURE", "false", []),
        ("ALLOW_ANONYMOUS_CONNECT_WITHOUT_TOKEN", "true", []),
        ("NAMESPACES", '{"a": {"presence": true}, "b": {"force_recovery": true}}', []),
        (
            "NAMESPACES",
            '{"a": {"allow_publish_for_client": true}, "b": {"subscribe": "users"}}',
            [f"HUBBUB_GATEWAY_NAMESPACES: a: {SILENT}"],
        ),
        (
            "NAMESPACES",
            '{"a": {"allow_recovery": true, "allow_subscribe_for_client": true}}',
            [],
        ),
        (
            "WITHOUT_NAMESPACE",
            '{"allow_history_for_subscriber": true}',
            [f"HUBBUB_GATEWAY_WITHOUT_NAMESPACE: {SILENT}"],
        ),
        ("PERSONAL_CHANNEL", '{"publish": "users"}', []),
    ],
)
def test_what_opens_more_than_may_be_meant_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, doubts: list[str]
) -> None:
    monkeypatch.setenv("HUBBUB_HMAC_SECRET", SECRET)
    monkeypatch.setenv(f"HUBBUB_GATEWAY_{name}", value)

    assert problems_of("gateway") == []
    told = warnings_of("gateway")
    assert len(told) == len(doubts)
    assert all(said.startswith(doubt) for said, doubt in zip(told, doubts, strict=True))
