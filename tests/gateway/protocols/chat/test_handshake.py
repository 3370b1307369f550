from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.chat.handshake import ChatHandshake, Since, read_handshake
from shared.web.query import read_query


def test_a_tab_that_says_nothing_wants_the_lobby() -> None:
    assert read_handshake({}, []) == ChatHandshake(
        room="lobby", channel="chat:lobby", token=None, subprotocol=None, since=None, history=0  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "subprotocols", "token", "answered"),
    [
        ({"token": "q"}, [], "q", None),
        ({}, ["bearer", "s"], "s", "bearer"),
        ({"token": "q"}, ["bearer", "s"], "q", "bearer"),
        ({"token": ""}, ["bearer", "s"], "s", "bearer"),
        ({}, ["other", "bearer", "s"], "s", "bearer"),
        ({}, ["bearer"], None, "bearer"),
        ({}, ["other"], None, None),
    ],
)
def test_the_query_wins_over_the_subprotocol_which_is_answered_all_the_same(
    query: dict[str, str], subprotocols: list[str], token: str | None, answered: str | None
) -> None:
    handshake = read_handshake(query, subprotocols)

    assert (handshake.token, handshake.subprotocol) == (token, answered)


@pytest.mark.parametrize("room", ["a b", "ä", "x" * 300, "a\0", "a\x7f"])
def test_a_room_that_cannot_be_has_no_channel(room: str) -> None:
    assert read_handshake({"room": room}, []).channel is None


@pytest.mark.parametrize(
    ("query", "since"),
    [
        ({}, None),
        ({"epoch": "e"}, None),
        ({"since": "17"}, Since(17, None)),
        ({"since": "0", "epoch": "e"}, Since(0, "e")),
        ({"since": "", "epoch": ""}, None),
        ({"since": "-1"}, Since(None, None)),
        ({"since": "1.0"}, Since(None, None)),
        ({"since": "٣"}, Since(None, None)),
        ({"since": "9" * 20}, Since(None, None)),
    ],
)
def test_a_place_is_read_or_known_to_be_none(query: dict[str, str], since: Since | None) -> None:
    assert read_handshake(query, []).since == since


def test_what_is_left_empty_is_as_if_it_were_left_out() -> None:
    nothing = {"token": "", "room": "", "since": "", "epoch": "", "history": ""}
    assert read_handshake(nothing, []) == read_handshake({}, [])


@pytest.mark.parametrize(("text", "count"), [("", 0), ("5", 5), ("1000", 100), ("-5", 0), ("x", 0)])
def test_a_newcomer_gets_at_most_a_hundred(text: str, count: int) -> None:
    assert read_handshake({"history": text}, []).history == count


@given(st.dictionaries(st.sampled_from(["room", "token", "since", "epoch", "history"]), st.text()),
       st.lists(st.text()))  # fmt: skip
def test_any_query_is_read(query: dict[str, str], subprotocols: list[str]) -> None:
    read_handshake(query, subprotocols)


@given(st.text(alphabet="ab=&;+%20?/\xe4", max_size=30).map(lambda text: text.encode("latin-1")))
def test_a_query_is_read_as_the_standard_library_reads_it(query: bytes) -> None:
    fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    assert read_query(query) == dict(fields)
