import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_client.contracts.channels import (
    BadChannelName,
    listed_users,
    name_of,
    namespace_of,
    parse_channel,
    personal_channel,
    post_channel,
    room_channel,
)
from hubbub_client.contracts.ids import PostId, UserId

ALPHABET = "".join(map(chr, range(0x21, 0x7F)))  # printable ASCII but the space


@given(st.text(ALPHABET, min_size=1, max_size=255))
def test_a_name_of_allowed_characters_is_a_channel(text: str) -> None:
    assert parse_channel(text) == text


@given(st.text())
def test_any_text_is_a_channel_or_a_bad_channel_name(text: str) -> None:
    try:
        parse_channel(text)
    except BadChannelName:
        return
    assert 0 < len(text) <= 255
    assert text.isascii()


@pytest.mark.parametrize("text", ["", "a" * 256, "a b", "chät", "chat:a\n", "chat:a\x7f"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(BadChannelName):
        parse_channel(text)


def test_the_channels_of_rooms_users_and_posts() -> None:
    assert room_channel("lobby") == "chat:lobby"
    assert personal_channel(UserId("42")) == "#42"
    assert post_channel(PostId(7)) == "post:7"


@pytest.mark.parametrize("room", ["", "a b", "x" * 251, "#7", "$x", "@x", "#", "$"])
def test_a_room_whose_name_fits_no_channel_or_is_reserved_is_refused(room: str) -> None:
    with pytest.raises(BadChannelName):
        room_channel(room)


@pytest.mark.parametrize(
    ("channel", "namespace", "name"),
    [
        ("chat:lobby", "chat", "lobby"),
        ("$secret:a:b", "secret", "a:b"),
        ("#42", "", "#42"),
        ("news", "", "news"),
        ("$news", "", "news"),
        ("chat:", "chat", ""),
        (":x", "", "x"),
    ],
)
def test_the_namespace_is_what_stands_before_the_colon(
    channel: str, namespace: str, name: str
) -> None:
    assert namespace_of(parse_channel(channel)) == namespace
    assert name_of(parse_channel(channel)) == name


@pytest.mark.parametrize(
    ("channel", "users"),
    [
        ("dialog:#7,42", ["7", "42"]),
        ("dialog:a#b#7", ["7"]),
        ("dialog:x#", []),
        ("dialog:x#,", []),
        ("dialog:x#,auth0|5f7c", ["auth0|5f7c"]),
        ("dialog:7,42", None),
    ],
)
def test_the_users_listed_are_those_behind_the_last_hash(
    channel: str, users: list[str] | None
) -> None:
    assert listed_users(parse_channel(channel)) == users
