import json
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.protocols.chat import frames as chat_frames
from gateway.protocols.chat.codec import (
    BadCommand,
    decode_command,
    encode,
    encode_ack,
    encode_publication,
)
from gateway.protocols.chat.frames import Ack, Authenticate, Error, Ping, PublishMessage
from gateway.transport.frames import Frame
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.contracts.publications import (
    BadPublication,
    Publication,
    Sender,
    StoredPublication,
    plain_message,
)
from tests.fixtures.user_ids import user_ids
from tests.gateway.connections import texts_in

ROOM, PERSONAL = parse_channel("chat:lobby"), parse_channel("#1")
ANN = Sender(user_id=UserId("1"), name="Ann")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates and NUL too

TIME = "2026-11-30T06:15:54.123456789Z"


def text_of(frame: Frame) -> str:
    """What a client reads in it, by a parser that is none of ours."""
    [text] = texts_in(frame)
    return text


def error_of(text: str) -> BadCommand:
    with pytest.raises(BadCommand) as caught:
        decode_command(text)
    return caught.value


def code_of(text: str) -> str | None:
    try:
        decode_command(text)
    except BadCommand as error:
        return error.code
    return None


@given(ANY_TEXT)
@example("[" * 100_000)
@example('{"type":"message","body":' * 50_000)
@example('{"type":"message","body":"\\ud800"}')
@example('{"type":"message","body":"\ud800"}')
@example('{"type":"message","id":' + "9" * 60_000 + "}")
@example('{"type":"message","body":1e999}')
@example('{"type":"message","body":NaN}')
@example('{"type":"message","body":"\x00"}')
@example("\ufeff{}")
@example("")
def test_any_text_is_a_command_or_a_bad_command(text: str) -> None:
    try:
        decode_command(text)
    except BadCommand as error:
        encode(Error(code=error.code, message=error.message, id=error.command_id))


@given(JSON)
def test_any_json_is_a_command_or_a_bad_command(value: Any) -> None:
    for text in (json.dumps(value), json.dumps({"type": "message", "body": value, "id": value})):
        assert code_of(text) in {
            None, "bad_json", "unknown_type", "bad_body", "bad_id", "too_long"
        }  # fmt: skip


@given(st.text(min_size=1, max_size=900), st.text(min_size=1, max_size=16))
def test_a_message_arrives_as_it_was_sent(body: str, command_id: str) -> None:
    sent = {"type": "message", "body": body, "id": command_id, "newer": [1]}

    assert decode_command(json.dumps(sent)) == PublishMessage(body=body, id=command_id)
    unescaped = json.dumps(sent, ensure_ascii=False)
    assert decode_command(unescaped) == PublishMessage(body=body, id=command_id)


def test_the_other_commands_are_read() -> None:
    assert decode_command('{"type":"ping","id":7}') == Ping()
    assert decode_command('{"type":"auth","token":"t"}') == Authenticate(token="t")
    assert decode_command('{"type":"message","body":"x","id":null}') == PublishMessage(body="x")


def test_half_a_surrogate_pair_may_stand_where_nobody_looks() -> None:
    for ignored in ('"newer":"\\ud83d"', '"newer":[{"\\ude00":1}]', '"\\ud83d":null'):
        text = f'{{"type":"message","id":"a","body":"x",{ignored}}}'
        assert decode_command(text) == PublishMessage(body="x", id="a")


@pytest.mark.parametrize(
    ("text", "code", "echoed"),
    [
        ("{", "bad_json", None),
        ("[]", "bad_json", None),
        ('"ping"', "bad_json", None),
        ('{"id":"a"}', "unknown_type", "a"),
        ('{"type":"shout","id":"a"}', "unknown_type", "a"),
        ('{"type":["ping"],"id":7}', "unknown_type", None),
        ('{"type":"message","id":"a"}', "bad_body", "a"),
        ('{"type":"message","id":"a","body":7}', "bad_body", "a"),
        ('{"type":"message","id":"a","body":""}', "bad_body", "a"),
        ('{"type":"message","id":"a","body":null}', "bad_body", "a"),
        ('{"type":"message","id":"a","body":"\\ud83d"}', "bad_body", "a"),
        ('{"type":"message","id":"a","body":"x \\uDE00 x","newer":"\\ud83d"}', "bad_body", "a"),
        ('{"type":"message","id":"\\ud83d","body":"x"}', "bad_id", None),
        ('{"type":"\\ud83d","id":"a"}', "unknown_type", "a"),
        ('{"type":"auth","id":"a","token":"\\ud83d"}', "invalid_token", "a"),
        ('{"type":"message","id":"a","body":"\\ud83d"', "bad_json", None),
        ('{"type":"message","id":"a","body":"\\ud83d","n":NaN}', "bad_json", None),
        ('{"type":"message","body":"x","id":7}', "bad_id", None),
        ('{"type":"message","body":"x","id":""}', "bad_id", None),
        ('{"type":"message","body":"x","id":"%s"}' % ("ü" * 33), "bad_id", None),
        ('{"type":"message","id":"a","body":"%s"}' % ("x" * 4097), "too_long", "a"),
        ('{"type":"message","id":"a","body":"%s"}' % ("ü" * 2049), "too_long", "a"),
        ('{"type":"auth","id":"a"}', "invalid_token", "a"),
        ('{"type":"auth","token":7}', "invalid_token", None),
        ('{"type":"auth","token":"%s"}' % ("x" * 8193), "invalid_token", None),
    ],
)
def test_each_mistake_has_its_code_and_echoes_a_valid_id(
    text: str, code: str, echoed: str | None
) -> None:
    error = error_of(text)

    assert (error.code, error.command_id) == (code, echoed)
    assert error.message
    assert "codec" not in error.message, "what Python calls it is nobody's business"


def test_the_longest_body_and_id_are_taken() -> None:
    text = json.dumps({"type": "message", "body": "ü" * 2048, "id": "i" * 64})

    assert decode_command(text) == PublishMessage(body="ü" * 2048, id="i" * 64)


def test_what_a_user_said_is_a_message() -> None:
    said = Publication(data={"body": "hi", "x": 1}, sender=ANN)

    frame = encode_publication(StoredPublication(17, ROOM, said.encode(), TIME))

    assert json.loads(text_of(frame)) == {
        "type": "message", "user_id": 1, "name": "Ann", "body": "hi", "offset": 17, "time": TIME,
    }  # fmt: skip


@pytest.mark.parametrize("data", [None, 7, "x", [], {"body": "looks like one"}])
def test_what_a_service_published_is_a_publication(data: Any) -> None:
    frame = encode_publication(StoredPublication(18, ROOM, Publication(data=data).encode(), TIME))

    assert json.loads(text_of(frame)) == {
        "type": "publication",
        "data": data,
        "offset": 18,
        "time": TIME,
    }


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("", "publication"),
        ("x" * 4096, "message"),
        ("x" * 4097, "publication"),
        ("ü" * 2048, "message"),
        ("ü" * 2049, "publication"),
    ],
    ids=len,
)
def test_what_no_tab_could_have_said_is_a_publication(body: str, kind: str) -> None:
    """An SDK publishes in a room what it likes."""
    said = Publication({"body": body}, ANN)

    frame = encode_publication(StoredPublication(19, ROOM, said.encode(), TIME))

    assert json.loads(text_of(frame))["type"] == kind


def test_an_event_in_the_personal_channel_is_a_notification() -> None:
    data = {"event": "post_liked", "id": "e1", "post_id": 7, "type": "x", "offset": "y", "z": None}

    frame = encode_publication(
        StoredPublication(21, PERSONAL, Publication(data=data, event_id="e1").encode(), TIME)
    )

    assert json.loads(text_of(frame)) == {
        "type": "notification", "event": "post_liked", "id": "e1", "post_id": 7, "z": None,
        "offset": 21, "time": TIME,
    }  # fmt: skip


@pytest.mark.parametrize("data", [None, [1], {"event": 7}, {"body": "hi"}])
def test_anything_else_in_the_personal_channel_names_its_channel(data: Any) -> None:
    frame = encode_publication(
        StoredPublication(22, PERSONAL, Publication(data=data, sender=ANN).encode(), TIME)
    )

    expected = {"type": "publication", "channel": "#1", "data": data, "offset": 22, "time": TIME}
    assert json.loads(text_of(frame)) == expected


_EXTRA: dict[bool, Literal["allow", "forbid"]] = {True: "allow", False: "forbid"}


def _model_of(frame: dict[str, Any]) -> type[BaseModel]:
    for model in chat_frames.PUSHES:
        if model.model_fields["type"].default == frame["type"]:
            return model
    raise AssertionError(frame)


@given(JSON, st.booleans(), st.booleans())
def test_every_publication_is_valid_json_and_fits_its_schema(
    data: Any, personal: bool, sent: bool
) -> None:
    publication = Publication(data=data, sender=ANN if sent else None)

    frame = encode_publication(
        StoredPublication(1, PERSONAL if personal else ROOM, publication.encode(), TIME)
    )

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    message = json.loads(text_of(frame), parse_constant=no_constant)
    model = _model_of(message)
    model.model_validate(message, extra=_EXTRA[model is chat_frames.Notification])


@given(
    st.text() | st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7F)),
    st.text(max_size=10) | st.just("Ann"),
    user_ids,
    st.sampled_from([b"", b" ", b"\n", b",", b'"', b"{"]),
    st.integers(0, 200),
)
def test_what_is_said_reads_alike_with_json_and_without(
    body: str, name: str, user_id: UserId, more: bytes, at: int
) -> None:
    said = Publication({"body": body}, Sender(user_id, name)).encode()
    at %= len(said) + 1
    payload = said[:at] + more + said[at:]
    as_json = b" " + payload
    assert plain_message(as_json) is None

    assert encoded_or_bad(payload) == encoded_or_bad(as_json)


def encoded_or_bad(payload: bytes) -> Frame | None:
    try:
        return encode_publication(StoredPublication(7, ROOM, payload, TIME))
    except BadPublication:
        return None


@given(st.text(), st.integers(0, 2**63 - 1))
def test_an_ack_is_as_its_schema_has_it(command_id: str, offset: int) -> None:
    assert encode_ack(command_id, offset) == encode(Ack(id=command_id, offset=offset))
