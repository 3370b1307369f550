"""Replies and pushes, byte for byte as the SDKs were seen to get them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.centrifuge.codec import (
    HTTP_STREAM,
    SSE,
    UNI_SSE,
    WEBSOCKET,
    client_info,
    publication_json,
)
from gateway.protocols.centrifuge.codes import Errors
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, UserId
from hubbub_client.contracts.publications import Publication, Sender, StoredPublication
from tests.fixtures.user_ids import user_ids
from tests.gateway.connections import texts_in

NEWS = ChannelName("news")
ANN = Sender(UserId("42"), "Ann", "c-1", {"name": "Ann"}, {"role": "dj"})


def stored(publication: Publication, offset: int = 1) -> StoredPublication:
    return StoredPublication(offset, NEWS, publication.encode(), "2026-11-30T06:00:00Z")


def pushed(publication: Publication, offset: int = 1) -> str:
    frame = WEBSOCKET.publication(stored(publication, offset))
    assert frame is not None
    [text] = texts_in(frame)
    return text


def test_what_a_client_published_says_who_it_was() -> None:
    assert pushed(Publication({"text": "hi"}, ANN)) == (
        '{"push":{"channel":"news","pub":{"data":{"text":"hi"},"info":{"user":"42",'
        '"client":"c-1","conn_info":{"name":"Ann"},"chan_info":{"role":"dj"}},"offset":1}}}'
    )


def test_what_a_service_published_says_nobody() -> None:
    assert pushed(Publication({"text": "missed 2"}, tags={"k": "v"}), 3) == (
        '{"push":{"channel":"news","pub":{"data":{"text":"missed 2"},"offset":3,"tags":{"k":"v"}}}}'
    )


@pytest.mark.parametrize(("user_id", "shown"), [("7", "7"), ("auth0|5f7c", "auth0|5f7c")])
def test_what_was_said_at_ws_chat_is_shown_with_a_user_that_is_a_text(
    user_id: str, shown: str
) -> None:
    message = Publication({"body": "hi"}, Sender(UserId(user_id), "Ann"))
    assert json.loads(pushed(message))["push"]["pub"] == {
        "data": {"body": "hi"}, "info": {"user": shown, "client": ""}, "offset": 1,
    }  # fmt: skip


@given(st.text(st.characters(codec="utf-8")), user_ids)
def test_plain_words_read_alike_with_json_and_without(body: str, user_id: UserId) -> None:
    payload = Publication({"body": body}, Sender(user_id, "Ann")).encode()
    plain = StoredPublication(1, NEWS, payload)
    spaced = StoredPublication(1, NEWS, b" " + payload)  # which is not plain
    assert json.loads(publication_json(plain)) == json.loads(publication_json(spaced))


def test_replies_and_errors_have_their_ids() -> None:
    assert texts_in(WEBSOCKET.reply(3, b"publish", b"{}")) == ['{"id":3,"publish":{}}']
    assert texts_in(WEBSOCKET.error(9, Errors.UNKNOWN_CHANNEL.value)) == [
        '{"id":9,"error":{"code":102,"message":"unknown channel"}}'
    ]
    assert texts_in(WEBSOCKET.error(9, Errors.INTERNAL.value)) == [
        '{"id":9,"error":{"code":100,"message":"internal server error","temporary":true}}'
    ]


def test_each_transport_has_its_framing() -> None:
    body = b'{"info":{"user":"","client":"c"}}'
    assert SSE.push(NEWS, b"join", body) == (
        b'data: {"push":{"channel":"news","join":{"info":{"user":"","client":"c"}}}}\n\n'
    )
    assert HTTP_STREAM.ping == b"{}\n"
    assert UNI_SSE.push(NEWS, b"join", body) == (
        b'data: {"channel":"news","join":{"info":{"user":"","client":"c"}}}\n\n'
    )


def test_a_client_that_is_nobody_is_shown_as_such() -> None:
    assert client_info(ANONYMOUS, "c") == b'{"user":"","client":"c"}'


def test_no_line_of_a_stream_is_broken_by_what_is_published() -> None:
    data: Any = {"text": "a\nb\r\n\u2028c"}
    for codec in (SSE, HTTP_STREAM):
        frame = codec.publication(stored(Publication(data)))
        assert frame is not None
        assert frame.rstrip(b"\n").count(b"\n") == 0
        assert frame.count(b"\r") == 0
