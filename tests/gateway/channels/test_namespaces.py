import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.channels.namespaces import Namespaces
from gateway.channels.options import Namespace, Who
from gateway.settings import GatewaySettings
from shared.contracts.channels import parse_channel, personal_channel
from shared.contracts.ids import UserId

ANN, BEN = UserId("1"), UserId("2")


@pytest.mark.parametrize(
    ("channel", "subscribes", "publishes"),
    [
        ("chat:lobby", True, True),
        ("post:7", True, False),
        ("#1", True, False),
        ("#2", False, False),
        ("#1,2", False, False),
        ("#01", False, False),
        ("$chat:secret", False, False),
        ("$", False, False),
        ("nonamespace", False, False),
        ("other:x", False, False),
        (":x", False, False),
    ],
)
def test_the_defaults_say_who_may_do_what(channel: str, subscribes: bool, publishes: bool) -> None:
    namespaces = Namespaces()

    name = parse_channel(channel)
    assert (namespaces.why_not_subscribe(name, ANN) is None) is subscribes
    assert (namespaces.why_not_publish(name, ANN, is_subscribed=subscribes) is None) is publishes


@given(st.from_regex(r"[!-~]{1,40}", fullmatch=True))
def test_nobody_gets_the_personal_channel_of_another(text: str) -> None:
    channel = parse_channel(text)

    if channel.startswith("#") and not Namespaces().why_not_subscribe(channel, BEN, by_token=True):
        assert channel == personal_channel(BEN)


def test_a_configuration_that_contradicts_itself_is_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="join_leave needs presence"):
        Namespace(join_leave=True)
    with pytest.raises(ValidationError):
        Namespace.model_validate({"histroy": True})


@pytest.mark.parametrize("name", ["", "#", "$chat", "a:b", "späti", "a b", "a\n", "x" * 255])
def test_a_name_that_no_channel_begins_with_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(ValidationError, match="no channel begins with"):
        GatewaySettings(namespaces={"chat": Namespace(), name: Namespace()})


@pytest.mark.parametrize("name", ["chat", "a.b", "a#b", "x" * 200])
def test_a_name_that_a_channel_begins_with_is_a_namespace(name: str) -> None:
    assert GatewaySettings(namespaces={name: Namespace()}).namespaces == {name: Namespace()}


def test_who_may_do_what_may_be_spelled_in_upper_case() -> None:
    assert Namespace.model_validate_json('{"publish": "USERS"}').publish is Who.USERS
    assert Namespace.model_validate_json('{"subscribe": " Services "}').subscribe is Who.SERVICES
    with pytest.raises(ValidationError, match="'users' or 'services'"):
        Namespace.model_validate_json('{"publish": "everybody"}')
