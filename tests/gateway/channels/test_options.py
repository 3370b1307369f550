from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.channels.options import DEFAULT_NAMESPACES, Namespace, PersonalOptions, Who
from hubbub_client.contracts.channels import parse_channel


def the_problem_with(**options: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Namespace.model_validate(options)
    errors = refused.value.errors()
    [error] = [each for each in errors if each["type"] != "default_factory_not_called"]
    return f"{'.'.join(map(str, error['loc']))}: {error['msg'].removeprefix('Value error, ')}"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"histroy": True}, "histroy: Extra inputs are not permitted"),
        ({"join_leave": True}, ": join_leave needs presence"),
        (
            {"presence": True, "force_push_join_leave": True},
            ": force_push_join_leave needs join_leave",
        ),
        ({"history": False, "force_recovery": True}, ": force_recovery needs history"),
        ({"history": False, "allow_recovery": True}, ": allow_recovery needs history"),
        ({"history": False, "force_positioning": True}, ": force_positioning needs history"),
        ({"history": False, "allow_positioning": True}, ": allow_positioning needs history"),
        (
            {"history": False, "history_size": 1, "history_ttl": 1},
            ": history_size needs history; history_ttl needs history",
        ),
        ({"delta_publish": True}, ": delta_publish needs allowed_delta_types"),
        ({"auto_cache_recover": True}, ": auto_cache_recover needs the force_recovery_mode cache"),
        (
            {"subscribe": "services", "allow_subscribe_for_client": False},
            ": subscribe says the same as allow_subscribe_for_client: say one of them",
        ),
        (
            {"publish": "users", "allow_publish_for_subscriber": False},
            ": publish says the same as allow_publish_for_subscriber: say one of them",
        ),
        (
            {"ephemeral": True, "history": True, "allowed_delta_types": ["fossil"]},
            ": history is of what is stored, and nothing ephemeral is;"
            " allowed_delta_types is of what is stored, and nothing ephemeral is",
        ),
        (
            {"ephemeral": True, "allowed_delta_types": ["fossil"]},
            ": allowed_delta_types is of what is stored, and nothing ephemeral is",
        ),
        ({"ephemeral": True, "force_recovery": True}, ": force_recovery needs history"),
        ({"ephemeral": True, "allow_positioning": True}, ": allow_positioning needs history"),
        ({"history_size": 0}, "history_size: Input should be greater than 0"),
        ({"history_ttl": 0}, "history_ttl: Input should be greater than 0"),
        ({"history_ttl": "0s"}, "history_ttl: Input should be greater than 0"),
        ({"history_ttl": float("inf")}, "history_ttl: Input should be a finite number"),
        ({"allowed_delta_types": ["rsync"]}, "allowed_delta_types.0: Input should be 'fossil'"),
        (
            {"force_recovery_mode": "all"},
            "force_recovery_mode: Input should be 'stream' or 'cache'",
        ),
        (
            {"publication_data_format": "binary"},
            "publication_data_format: Input should be '', 'json' or 'json_object'",
        ),
    ],
)
def test_options_that_contradict_each_other_or_mean_nothing_are_refused(
    options: dict[str, Any], problem: str
) -> None:
    assert the_problem_with(**options) == problem


@pytest.mark.parametrize("pattern", ["(", "[[:alpha:]]", r"\z{"])
def test_what_is_no_regular_expression_here_is_refused(pattern: str) -> None:
    assert the_problem_with(channel_regex=pattern).startswith(
        "channel_regex: no regular expression: "
    )


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (300, 300),
        (0.5, 0.5),
        ("300s", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        (".5s", 0.5),
        ("24h0m0s", 86_400),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_as_go_writes_it(ttl: Any, seconds: float) -> None:
    assert Namespace(history_ttl=ttl).history_ttl == seconds


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59_999))
def test_hours_minutes_and_fractions_of_seconds_add_up(hours: int, minutes: int, ms: int) -> None:
    written = f"{hours}h{minutes}m{ms / 1000}s"

    ttl = Namespace(history_ttl=written).history_ttl

    assert ttl == pytest.approx(hours * 3600 + minutes * 60 + ms / 1000)


@pytest.mark.parametrize(
    "ttl", ["", "s", "5", "-5s", "5 s", "5d", "5s5", "5S", "1e3s", "٣s", "5s\n"]
)
def test_no_other_text_is_a_duration(ttl: str) -> None:
    assert the_problem_with(history_ttl=ttl).startswith("history_ttl: neither a number of seconds")


def test_our_words_stand_for_options_that_say_who_may_do_what() -> None:
    allowed = {option for option in Namespace.model_fields if option.startswith("allow_")}

    def on(options: Namespace) -> set[str]:
        return {option for option in allowed if getattr(options, option)}

    assert on(Namespace()) == {"allow_subscribe_for_client", "allow_history_for_subscriber"}
    assert on(Namespace(subscribe=Who.SERVICES, history=False)) == set()
    assert on(Namespace(subscribe=Who.SERVICES, history=False, publish=Who.USERS)) == {
        "allow_publish_for_subscriber"
    }
    assert on(Namespace(presence=True)) - on(Namespace()) == {"allow_presence_for_subscriber"}
    assert not Namespace(presence=True, allow_presence_for_subscriber=False).seeing_presence[1]
    assert not Namespace(allow_history_for_subscriber=False).reading_history[1]
    assert Namespace(allow_subscribe_for_client=False) != Namespace()


def test_what_was_configured_before_means_what_it_meant() -> None:
    chat, post = DEFAULT_NAMESPACES["chat"], DEFAULT_NAMESPACES["post"]
    assert chat == Namespace(publish=Who.USERS, presence=True, join_leave=True)
    assert post == Namespace()
    assert Namespace.model_validate_json('{"publish": "USERS"}').publish is Who.USERS
    assert Namespace.model_validate_json('{"subscribe": " Services "}').subscribe is Who.SERVICES
    assert the_problem_with(publish="everybody") == "publish: Input should be 'users' or 'services'"


def test_nothing_ephemeral_can_be_read_again() -> None:
    options = Namespace(ephemeral=True, publish=Who.USERS)

    assert not options.history
    assert not any(options.reading_history)


def test_notifications_are_never_ephemeral() -> None:
    with pytest.raises(ValidationError, match="notifications are stored"):
        PersonalOptions(ephemeral=True)


def test_a_personal_channel_recovers_unless_it_has_no_history() -> None:
    assert PersonalOptions().force_recovery
    assert PersonalOptions(publish=Who.USERS).force_recovery
    assert not PersonalOptions(history=False).force_recovery


@pytest.mark.parametrize(
    ("pattern", "channel", "takes"),
    [
        ("", "a:anything", True),
        ("^[0-9]+$", "a:7", True),
        ("^[0-9]+$", "$a:7", True),
        ("^[0-9]+$", "a:x7", False),
        ("[0-9]", "a:x7", True),  # found anywhere
        ("^[0-9]+$", "7", True),  # a channel without a namespace
        ("^b:", "a:b:c", True),
    ],
)
def test_the_regular_expression_is_of_what_stands_behind_the_namespace(
    pattern: str, channel: str, takes: bool
) -> None:
    assert Namespace(channel_regex=pattern).takes_name(parse_channel(channel)) is takes


@pytest.mark.parametrize("data", [None, 0, "x", [], {}, {"a": 1}])
def test_what_may_be_published_is_any_json_or_an_object(data: object) -> None:
    assert Namespace().takes_data(data)
    assert Namespace(publication_data_format="json").takes_data(data)
    takes = Namespace(publication_data_format="json_object").takes_data(data)
    assert takes is isinstance(data, dict)
