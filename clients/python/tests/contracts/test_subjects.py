"""Names on the bus."""

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hubbub_client.contracts.channels import BadChannelName
from hubbub_client.contracts.ids import ANONYMOUS, BadUserId, ChannelName, UserId
from hubbub_client.contracts.subjects import (
    MAX_MESSAGE_ID_BYTES,
    api_message_id,
    channel_of,
    event_message_id,
    event_subject,
    parse_application,
    publication_subject,
    token_of,
    user_message_id,
    user_of,
)
from hubbub_client.nats.client import encode_subject
from tests.fixtures.user_ids import user_ids

channels = st.from_regex(r"[!-~]{1,255}", fullmatch=True).map(ChannelName)
texts = st.text(max_size=300) | st.text(alphabet=":%u.", max_size=8)


@given(channel=channels)
def test_a_channel_is_one_token_and_comes_back_from_it(channel: ChannelName) -> None:
    token = token_of(channel)

    assert not set(" .*>") & set(token)
    assert channel_of(token) == channel
    assert encode_subject(publication_subject(channel))


@given(token=st.from_regex(r"[!-~]{1,20}", fullmatch=True) | st.text(max_size=20))
def test_no_two_tokens_are_one_channel(token: str) -> None:
    with suppress(BadChannelName):
        assert token_of(channel_of(token)) == token


@pytest.mark.parametrize("token", ["%61", "%7e", "a%", "%zz", "a.b", "*", ">", "%E4", "ä"])
def test_a_token_that_no_channel_makes_is_no_channel(token: str) -> None:
    with pytest.raises(BadChannelName):
        channel_of(token)


@pytest.mark.parametrize(
    ("channel", "token"),
    [
        ("chat:a.b", "chat:a~b"),
        ("$x:#@,-_", "$x:#@,-_"),
        ("#auth0|5f7c", "#auth0|5f7c"),
        ("chat:*.>~%", "chat:%2A~%3E%7E%25"),
    ],
)
def test_names_that_fitted_a_token_always_keep_theirs(channel: str, token: str) -> None:
    assert token_of(ChannelName(channel)) == token


@given(one=channels, other=channels)
def test_two_channels_never_share_a_subject(one: ChannelName, other: ChannelName) -> None:
    assume(one != other)

    assert publication_subject(one) != publication_subject(other)


def test_a_channel_with_dots_stays_one_token_below_the_prefix() -> None:
    assert publication_subject(ChannelName("chat:a.b")) == "rt.pub.chat:a~b"


def test_an_event_names_its_service_and_type() -> None:
    assert event_subject("posts", "post_liked") == "events.posts.post_liked"


@pytest.mark.parametrize("name", ["posts", "auth", "notify", "my.shop", "Shop", "", "s" * 33])
def test_an_application_is_called_neither_as_hubbubs_own_nor_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"own|called"):
        parse_application(name)


@given(left=st.tuples(channels, texts), right=st.tuples(channels, texts))
def test_ids_of_different_publications_differ_whatever_they_contain(
    left: tuple[ChannelName, str], right: tuple[ChannelName, str]
) -> None:
    assume(left != right)

    assert api_message_id(*left) != api_message_id(*right)
    assert user_message_id(UserId("1"), *left) != user_message_id(UserId("1"), *right)


@given(left=st.tuples(user_ids, channels, texts), right=st.tuples(user_ids, channels, texts))
def test_ids_of_different_users_differ_whatever_the_users_are_called(
    left: tuple[UserId, ChannelName, str], right: tuple[UserId, ChannelName, str]
) -> None:
    assume(left != right)

    assert user_message_id(*left) != user_message_id(*right)


def test_a_user_with_a_colon_does_not_pass_for_a_user_and_a_channel() -> None:
    assert user_message_id(UserId("a:b"), ChannelName("c"), "d") == "u:a%3Ab:c:d"
    assert user_message_id(UserId("7"), ChannelName("chat:a"), "d") == "u:7:chat%3Aa:d"


@given(user_id=user_ids)
def test_a_user_is_one_token_and_comes_back_from_it(user_id: UserId) -> None:
    token = token_of(user_id)

    assert not set(" .*>") & set(token)
    assert user_of(token) == user_id


def test_the_anonymous_user_has_a_token_that_is_no_others() -> None:
    assert token_of(ANONYMOUS) == "%"
    assert user_of("%") == ANONYMOUS
    with pytest.raises(BadChannelName):
        channel_of("%")


@pytest.mark.parametrize("token", ["", "%61", "%00", "%25%", "a.b", "*", "ä", "x" * 129])
def test_a_token_that_no_user_makes_is_no_user(token: str) -> None:
    with pytest.raises(BadUserId):
        user_of(token)


@given(channel=channels, text=texts)
def test_ids_of_different_kinds_and_users_differ(channel: ChannelName, text: str) -> None:
    ids = {
        user_message_id(UserId("1"), channel, text),
        user_message_id(UserId("11"), channel, text),
        api_message_id(channel, text),
        event_message_id(text, channel),
    }

    assert len(ids) == 4


@given(channel=channels, text=st.text(max_size=2000))
def test_an_id_is_short_printable_and_fits_a_header(channel: ChannelName, text: str) -> None:
    message_id = api_message_id(channel, text)

    assert len(message_id) <= MAX_MESSAGE_ID_BYTES
    assert message_id.isascii()
    assert message_id.isprintable()
    assert " " not in message_id


@given(channel=channels, text=texts)
def test_the_parts_of_an_id_are_escaped_as_in_a_url(channel: ChannelName, text: str) -> None:
    parts = ["api", *(quote(part, safe="#$@,", errors="surrogatepass") for part in (channel, text))]
    assume(len(":".join(parts)) <= MAX_MESSAGE_ID_BYTES)

    assert api_message_id(channel, text) == ":".join(parts)


def test_a_part_with_a_colon_does_not_pass_for_two_parts() -> None:
    one = user_message_id(UserId("1"), ChannelName("chat:a"), "b:c")
    other = user_message_id(UserId("1"), ChannelName("chat:a:b"), "c")

    assert one != other


def test_text_that_is_no_unicode_still_makes_an_id() -> None:
    assert api_message_id(ChannelName("c"), "\ud800") != api_message_id(ChannelName("c"), "?")
