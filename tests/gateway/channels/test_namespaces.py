import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.channels.namespaces import Namespaces
from gateway.channels.options import Namespace, PersonalOptions, Who
from gateway.errors import Refusal
from gateway.settings import GatewaySettings
from hubbub_client.contracts.channels import parse_channel, personal_channel
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, UserId

ANN, BEN = UserId("1"), UserId("2")

UNKNOWN, DENIED = Refusal.UNKNOWN_CHANNEL, Refusal.PERMISSION_DENIED
OFF, BAD = Refusal.NOT_AVAILABLE, Refusal.BAD_REQUEST

NAMES = st.from_regex(r"[!-~]{1,40}", fullmatch=True)
USERS = st.sampled_from([ANN, BEN, ANONYMOUS, UserId("1,2"), UserId("a#b")])
OPTIONS = st.builds(
    Namespace,
    subscribe=st.sampled_from(Who),
    publish=st.sampled_from(Who),
    history=st.booleans(),
    presence=st.booleans(),
    **{
        option: st.booleans()
        for option in Namespace.model_fields
        if option.startswith("allow_")
        and option
        not in (
            "allow_subscribe_for_client",  # which the words say
            "allow_publish_for_subscriber",
            "allow_recovery",  # which need history
            "allow_positioning",
        )
    },
)
"""Of any namespace."""


def refusals(
    namespaces: Namespaces, channel: ChannelName, user: UserId, *, is_in: bool
) -> list[Refusal | None]:
    """Of all that there is to ask for, by somebody who has a token and listens, or by any."""
    return [
        namespaces.why_not_subscribe(channel, user, by_token=is_in),
        namespaces.why_not_publish(channel, user, is_subscribed=is_in),
        namespaces.why_not_see_presence(channel, user, is_subscribed=is_in),
        namespaces.why_not_read_history(channel, user, is_subscribed=is_in),
    ]


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


OPEN = Namespace(subscribe=Who.USERS, allow_subscribe_for_anonymous=True)
LIMITED = Namespace(subscribe=Who.SERVICES, allow_user_limited_channels=True)
BOTH = Namespace(subscribe=Who.USERS, allow_user_limited_channels=True)


@pytest.mark.parametrize(
    ("options", "channel", "user", "by_token", "refusal"),
    [
        # Who may without being asked for anything.
        (Namespace(), "a:x", ANN, False, None),
        (Namespace(), "a:x", ANONYMOUS, False, DENIED),
        (OPEN, "a:x", ANONYMOUS, False, None),
        (Namespace(subscribe=Who.SERVICES), "a:x", ANN, False, DENIED),
        (Namespace(subscribe=Who.SERVICES), "a:x", ANN, True, None),
        (Namespace(subscribe=Who.SERVICES), "a:x", ANONYMOUS, True, None),
        (
            Namespace(subscribe=Who.SERVICES, allow_subscribe_for_anonymous=True),
            "a:x", ANONYMOUS, False, DENIED,
        ),
        # A private channel needs a token, whatever is allowed.
        (OPEN, "$a:x", ANN, False, DENIED),
        (OPEN, "$a:x", ANN, True, None),
        (LIMITED, "$a:x#1", ANN, False, DENIED),
        (LIMITED, "$a:x#1", BEN, True, None),
        # A user-limited one is for those whom it lists, and for nobody else without a token.
        (LIMITED, "a:#1,2", ANN, False, None),
        (LIMITED, "a:x#1,2", BEN, False, None),
        (LIMITED, "a:x#1,2", UserId("12"), False, DENIED),
        (LIMITED, "a:x#1,2", UserId("1,2"), False, DENIED),
        (LIMITED, "a:x#2#1", BEN, False, DENIED),
        (LIMITED, "a:x#10", ANN, False, DENIED),
        (LIMITED, "a:x#01", ANN, False, DENIED),
        (LIMITED, "a:x#Ann", UserId("ann"), False, DENIED),
        (LIMITED, "a:x#", ANONYMOUS, False, DENIED),
        (LIMITED, "a:x#1,", ANONYMOUS, False, DENIED),
        (LIMITED, "a:x#2", ANN, True, None),
        (LIMITED, "a:x", ANN, False, DENIED),
        (BOTH, "a:x", ANN, False, None),
        (BOTH, "a:x#2", ANN, False, DENIED),
        (BOTH, "a:x#", ANN, False, DENIED),
        (Namespace(), "a:x#2", ANN, False, None),  # where the option is off it is a name
        # A personal one is its owner's, whatever anything says.
        (OPEN, "#1", ANN, False, None),
        (OPEN, "#1", ANN, True, None),
        (OPEN, "#1", BEN, True, DENIED),
        (OPEN, "#1,2", ANN, True, DENIED),
        (OPEN, "#1,2", UserId("1,2"), False, None),
        (OPEN, "#", ANONYMOUS, True, UNKNOWN),
        # What there isn't.
        (OPEN, "b:x", ANN, True, UNKNOWN),
        (OPEN, "x", ANN, True, UNKNOWN),
        (OPEN, ":x", ANN, True, UNKNOWN),
        (OPEN, "$", ANN, True, UNKNOWN),
        (Namespace(channel_regex="^[a-z]+$"), "a:x1", ANN, True, BAD),
    ],
)  # fmt: skip
def test_who_may_subscribe(
    options: Namespace, channel: str, user: UserId, by_token: bool, refusal: Refusal | None
) -> None:
    namespaces = Namespaces({"a": options})

    assert namespaces.why_not_subscribe(parse_channel(channel), user, by_token=by_token) is refusal


FOR_CLIENTS = Namespace(
    subscribe=Who.SERVICES,
    publish=Who.SERVICES,
    presence=True,
    allow_publish_for_client=True,
    allow_presence_for_client=True,
    allow_presence_for_subscriber=False,
    allow_history_for_client=True,
    allow_history_for_subscriber=False,
    allow_user_limited_channels=True,
)
FOR_SUBSCRIBERS = Namespace(publish=Who.USERS, presence=True, allow_user_limited_channels=True)
FOR_NOBODY = Namespace(
    presence=True, allow_presence_for_subscriber=False, allow_history_for_subscriber=False
)
ANONYMOUS_TOO = {
    "allow_publish_for_anonymous": True,
    "allow_presence_for_anonymous": True,
    "allow_history_for_anonymous": True,
}


@pytest.mark.parametrize(
    ("options", "channel", "user", "is_subscribed", "refusal"),
    [
        (FOR_SUBSCRIBERS, "a:x", ANN, True, None),
        (FOR_SUBSCRIBERS, "a:x", ANN, False, DENIED),
        (FOR_SUBSCRIBERS, "a:x", ANONYMOUS, True, DENIED),
        (FOR_SUBSCRIBERS.model_copy(update=ANONYMOUS_TOO), "a:x", ANONYMOUS, True, None),
        (FOR_SUBSCRIBERS.model_copy(update=ANONYMOUS_TOO), "a:x", ANONYMOUS, False, DENIED),
        (FOR_CLIENTS, "a:x", ANN, True, None),
        (FOR_CLIENTS, "a:x", ANN, False, None),
        (FOR_CLIENTS, "a:x", ANONYMOUS, False, DENIED),
        (FOR_CLIENTS.model_copy(update=ANONYMOUS_TOO), "a:x", ANONYMOUS, False, None),
        (FOR_NOBODY, "a:x", ANN, True, DENIED),
        (FOR_NOBODY.model_copy(update=ANONYMOUS_TOO), "a:x", ANONYMOUS, True, DENIED),
        # What is for somebody is for nobody else, unless a token has let them in.
        (FOR_CLIENTS, "$a:x", ANN, False, DENIED),
        (FOR_CLIENTS, "$a:x", ANN, True, None),
        (FOR_CLIENTS, "a:x#2", ANN, False, DENIED),
        (FOR_CLIENTS, "a:x#2", ANN, True, None),
        (FOR_CLIENTS, "a:x#1,2", ANN, False, None),
        (FOR_SUBSCRIBERS, "a:x#1,2", ANN, False, DENIED),
        (FOR_CLIENTS, "#2", ANN, True, DENIED),
        # What there isn't.
        (FOR_CLIENTS, "b:x", ANN, True, UNKNOWN),
        (FOR_CLIENTS, "#", ANONYMOUS, True, UNKNOWN),
        (Namespace(channel_regex="^[a-z]+$", presence=True), "a:x1", ANN, True, BAD),
    ],
)  # fmt: skip
def test_who_may_publish_and_see_presence_and_history(
    options: Namespace, channel: str, user: UserId, is_subscribed: bool, refusal: Refusal | None
) -> None:
    namespaces, name = Namespaces({"a": options}, personal=options), parse_channel(channel)

    assert refusals(namespaces, name, user, is_in=is_subscribed)[1:] == [refusal] * 3


def test_what_is_off_is_not_available_whoever_asks() -> None:
    off = Namespace(presence=False, history=False, publish=Who.USERS)
    namespaces, channel = Namespaces({"a": off}, insecure=True), parse_channel("a:x")

    for user in (ANN, ANONYMOUS):
        assert namespaces.why_not_see_presence(channel, user, is_subscribed=True) is OFF
        assert namespaces.why_not_read_history(channel, user, is_subscribed=True) is OFF


def test_nobody_publishes_to_personal_channels_unless_the_options_say_so() -> None:
    may = Namespaces(personal=PersonalOptions(publish=Who.USERS))

    assert Namespaces().why_not_publish(personal_channel(ANN), ANN, is_subscribed=True) is DENIED
    assert may.why_not_publish(personal_channel(ANN), ANN, is_subscribed=True) is None
    assert may.why_not_publish(personal_channel(ANN), BEN, is_subscribed=True) is DENIED


@pytest.mark.parametrize("channel", ["x", "x:", ":x", "$x", "a"])
def test_channels_without_a_namespace_are_where_they_have_options(channel: str) -> None:
    bare, name = Namespace(presence=True), parse_channel(channel)
    namespaces = Namespaces({"a": Namespace()}, without_namespace=bare)

    assert Namespaces({"a": Namespace()}).options_of(name) is None
    assert namespaces.options_of(name) is (None if channel == "x:" else bare)
    assert namespaces.options_of(parse_channel("a:x")) == Namespace()
    assert namespaces.options_of(parse_channel("b:x")) is None
    assert namespaces.options_of(personal_channel(ANN)) is not bare


@given(OPTIONS, NAMES, USERS, st.booleans())
def test_nobody_gets_near_the_personal_channel_of_another(
    options: Namespace, text: str, user: UserId, insecure: bool
) -> None:
    namespaces = Namespaces(
        {"a": options}, without_namespace=options, personal=options, insecure=insecure
    )
    for channel in (ChannelName(f"#{text}"), ChannelName(f"#{BEN}")):
        if channel != personal_channel(user):
            assert all(refusals(namespaces, channel, user, is_in=True))


@given(OPTIONS, NAMES, USERS, st.booleans())
def test_what_lists_its_users_or_needs_a_token_is_for_nobody_else(
    options: Namespace, text: str, user: UserId, insecure: bool
) -> None:
    namespaces = Namespaces({"a": options}, insecure=insecure)
    closed = [ChannelName(f"$a:{text}")]
    if options.allow_user_limited_channels and user != UserId("7"):
        closed.append(ChannelName(f"a:{text}#7"))
    for channel in closed:
        assert all(refusals(namespaces, channel, user, is_in=False))


@given(OPTIONS, NAMES, st.booleans())
def test_the_anonymous_user_may_nothing_that_a_signed_in_one_may_not(
    options: Namespace, text: str, is_in: bool
) -> None:
    namespaces, somebody = Namespaces({"a": options}), UserId("stranger")
    for channel in (ChannelName(f"a:{text}"), ChannelName(f"$a:{text}")):
        anonymous = refusals(namespaces, channel, ANONYMOUS, is_in=is_in)
        signed_in = refusals(namespaces, channel, somebody, is_in=is_in)
        for refusal, other in zip(anonymous, signed_in, strict=True):
            assert refusal or not other


def test_where_permissions_are_off_everybody_may_what_is_for_nobody_in_particular() -> None:
    nobody = Namespace(
        subscribe=Who.SERVICES, presence=True, allow_user_limited_channels=True,
        allow_presence_for_subscriber=False, allow_history_for_subscriber=False,
    )  # fmt: skip
    namespaces = Namespaces({"a": nobody}, insecure=True)

    for user in (ANN, ANONYMOUS):
        assert not any(refusals(namespaces, parse_channel("a:x"), user, is_in=False))
        for name in ("$a:x", "a:x#2", "#2"):
            assert namespaces.why_not_subscribe(parse_channel(name), user) is DENIED


@pytest.mark.parametrize(
    ("options", "positioned", "recovers"),
    [
        ({"allow_history_for_subscriber": True}, True, True),  # who may read it may also ask
        ({"history": False}, False, False),
        ({}, False, False),
        ({"allow_positioning": True}, True, False),
        ({"force_positioning": True}, True, False),
        ({"allow_recovery": True}, False, True),
        ({"force_recovery": True}, False, True),
    ],
)
def test_what_a_subscriber_may_ask_for(
    options: dict[str, bool], positioned: bool, recovers: bool
) -> None:
    unread = {"allow_history_for_subscriber": False}
    namespaces = Namespaces({"a": Namespace.model_validate(unread | options)})
    channel = parse_channel("a:x")

    assert namespaces.may_be_positioned(channel, ANN) is positioned
    assert namespaces.may_recover(channel, ANN) is recovers


def test_what_may_be_published_is_said_whoever_publishes_it() -> None:
    objects = Namespace(publication_data_format="json_object", channel_regex="^x")
    namespaces = Namespaces({"a": objects})

    assert namespaces.why_not_take(parse_channel("a:x"), {}) is None
    assert namespaces.why_not_take(parse_channel("a:x"), [1]) is BAD
    assert namespaces.why_not_take(parse_channel("a:y"), {}) is BAD
    assert namespaces.why_not_take(parse_channel("b:x"), {}) is UNKNOWN


@pytest.mark.parametrize("name", ["", "#", "$chat", "a:b", "späti", "a b", "a\n", "x" * 255])
def test_a_name_that_no_channel_begins_with_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(ValidationError, match="no channel begins with"):
        GatewaySettings(namespaces={"chat": Namespace(), name: Namespace()})


@pytest.mark.parametrize("name", ["chat", "a.b", "a#b", "x" * 200])
def test_a_name_that_a_channel_begins_with_is_a_namespace(name: str) -> None:
    assert GatewaySettings(namespaces={name: Namespace()}).namespaces == {name: Namespace()}


def test_what_may_go_unstored_is_said_by_the_channels_options() -> None:
    namespaces = Namespaces(
        {
            "cursors": Namespace(ephemeral=True, channel_regex=re.compile("^[0-9]+$")),
            "chat": Namespace(),
            "patched": Namespace(allowed_delta_types={"fossil"}),
        }
    )

    ephemeral, stored = parse_channel("cursors:7"), parse_channel("chat:lobby")
    assert namespaces.is_ephemeral(ephemeral)
    assert not namespaces.is_ephemeral(stored)
    assert not namespaces.is_ephemeral(parse_channel("nowhere:x"))
    assert not namespaces.is_ephemeral(personal_channel(ANN))
    assert namespaces.why_not_pass_on(ephemeral) is None
    assert namespaces.why_not_pass_on(stored) is None
    assert namespaces.why_not_pass_on(personal_channel(ANN)) is None
    assert namespaces.why_not_pass_on(parse_channel("patched:x")) is OFF
    assert namespaces.why_not_pass_on(parse_channel("nowhere:x")) is UNKNOWN
    assert namespaces.why_not_pass_on(parse_channel("cursors:x")) is BAD
