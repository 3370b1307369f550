import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.ids import (
    ANONYMOUS,
    ChannelName,
    UserId,
    user_id_from_json,
    user_id_to_json,
)
from hubbub_client.contracts.publications import BadPublication, Publication, Sender, plain_message
from tests.fixtures.user_ids import user_ids

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)
TEXTS = st.text(st.characters(codec="utf-8"))
SENDERS = st.none() | st.builds(
    Sender,
    user_id=user_ids | st.just(ANONYMOUS),
    name=TEXTS,
    client=TEXTS,
    conn_info=JSON,
    chan_info=JSON,
)
TAGS = st.none() | st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3)


@given(st.builds(Publication, data=JSON, sender=SENDERS, tags=TAGS, delta=st.booleans()))
def test_a_publication_survives_the_stream(publication: Publication) -> None:
    assert Publication.decode(publication.encode()) == publication


@pytest.mark.parametrize("user_id", [b"7", b'"7"'])
def test_a_sender_is_stored_as_a_number_and_read_in_either_form(user_id: bytes) -> None:
    stored = b'{"data":1,"sender":{"user_id":%b,"name":"Ann"}}'

    read = Publication.decode(stored % user_id)

    assert read == Publication(1, Sender(UserId("7"), "Ann"))
    assert read.encode() == stored % b"7"


@given(st.binary())
def test_any_bytes_are_a_publication_or_a_bad_one(payload: bytes) -> None:
    try:
        Publication.decode(payload)
    except BadPublication:
        return


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[]", b'{"sender": null}', b'{"data": 1, "sender": 2}']
)
def test_what_carries_no_data_is_no_publication(payload: bytes) -> None:
    with pytest.raises(BadPublication):
        Publication.decode(payload)


@pytest.mark.parametrize(
    "rest",
    [
        b'"sender": {"user_id": null, "name": "Ann"}',
        b'"sender": {"user_id": 1, "name": "Ann", "client": 7}',
        b'"sender": {"user_id": 1, "name": "Ann", "conn_info": 1e400}',
        b'"tags": {"a": 1}',
        b'"tags": []',
        b'"sender": {"user_id": "a b", "name": "Ann"}',
        b'"sender": {"user_id": 0, "name": "Ann"}',
        b'"sender": {"user_id": 1.0, "name": "Ann"}',
        b'"sender": {"user_id": true, "name": "Ann"}',
        b'"sender": {"user_id": 1}',
        b'"sender": {"name": "Ann"}',
        b'"sender": {"user_id": 1, "name": null}',
        b'"sender": [1, "Ann"]',
        b'"event_id": 7',
    ],
)
def test_what_is_said_of_its_origin_has_the_types_that_a_writer_gives_it(rest: bytes) -> None:
    with pytest.raises(BadPublication):
        Publication.decode(b'{"data": 1, %b}' % rest)


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
UNREADABLE_BY_SOME: list[Any] = [
    float("nan"),
    [float("inf")],
    {"a": -float("inf")},
    10**400,
    10**5000,
    "half a pair \ud83d",
    {"\ude00": 1},
    {1: "one", "1": "another"},
    json.loads("[" * 61 + "]" * 61),
    json.loads("[" * 300 + "]" * 300),
    CIRCLE,
    object(),
    b"\xff",
]


@pytest.mark.parametrize("data", UNREADABLE_BY_SOME, ids=lambda data: type(data).__name__)
def test_what_not_every_reader_can_read_is_not_stored(data: Any) -> None:
    for publication in (Publication(data), Publication({"body": data}, Sender(UserId("1"), "Ann"))):
        with pytest.raises(BadPublication):
            publication.encode()
    with pytest.raises(ValidationError):
        Envelope(type="told", data={"of": data})


@pytest.mark.parametrize(
    "data",
    [
        b"1e400",
        b"[-1e400]",
        b'{"a":%b}' % (b"9" * 400),
        b"NaN",
        b"Infinity",
        b'"\\ud83d"',
        b"[" * 61 + b"]" * 61,
        b"[" * 200 + b"]" * 200,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_somebody_stored_all_the_same_is_read_by_nobody(data: bytes) -> None:
    with pytest.raises(BadPublication):
        Publication.decode(b'{"data":%b}' % data)
    with pytest.raises(ValidationError):
        Envelope.model_validate_json(b'{"id":"1","type":"told","data":{"of":%b}}' % data)


@given(JSON | st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_stored_is_json_to_a_reader_that_is_not_ours(data: Any) -> None:
    stored = Publication(data).encode()

    assert json.loads(stored) == {"data": data}
    assert Publication.decode(stored).encode() == stored


def test_what_has_a_form_in_json_is_stored_in_it() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    assert Publication.decode(Publication([moment, {1: (2.0,)}]).encode()) == Publication(
        ["2026-01-01T00:00:00Z", {"1": [2.0]}]
    )


def test_a_field_of_a_newer_writer_is_ignored() -> None:
    assert Publication.decode(b'{"data": null, "colour": {"a": "b"}}') == Publication(data=None)


def test_an_event_is_published_under_its_name_and_id() -> None:
    envelope = Envelope(
        type="post_liked",
        recipients=(UserId("1"),),
        channels=(ChannelName("post:7"),),
        data={"post_id": 7, "like_count": 3},
    )

    assert envelope.to_publication_data() == {
        "post_id": 7,
        "like_count": 3,
        "event": "post_liked",
        "id": envelope.id,
    }
    assert Envelope.model_validate_json(envelope.model_dump_json()) == envelope


PLAIN_TEXT = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\')
)
PLAIN_NUMBERS = st.integers(1, 10**15 - 1).map(str)
PLAIN_IDS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'),
    min_size=1,
    max_size=128,
).filter(lambda text: not re.fullmatch("[1-9][0-9]*", text))
PLAIN_USER_IDS = (PLAIN_NUMBERS | PLAIN_IDS).map(UserId)


@given(PLAIN_TEXT, PLAIN_TEXT, PLAIN_USER_IDS)
@example("", "", UserId("9" * 15))
@example("", "", UserId("a" * 128))
def test_what_a_user_says_in_plain_text_is_recognised_as_it_is_stored(
    body: str, name: str, user_id: UserId
) -> None:
    stored = Publication({"body": body}, Sender(user_id, name)).encode()

    plain = plain_message(stored)

    assert plain is not None, "a change of the encoder would make all that is said slow"
    assert json.loads(plain.body) == body
    assert json.loads(plain.user_id) == user_id_to_json(user_id)
    assert json.loads(plain.name) == name


SOMETHING_SAID = st.builds(
    lambda body, user_id, name: (
        b'{"data":{"body":%b},"sender":{"user_id":%b,"name":%b}}' % (body, user_id, name)
    ),
    body=PLAIN_TEXT.map(lambda text: b'"%b"' % text.encode())
    | st.sampled_from([b'"\\n"', b'"\x7f"', b'"\xff"', b'"\n"', b"1", b"null", b'"a"b"', b'"a" ']),
    user_id=PLAIN_NUMBERS.map(str.encode)
    | st.sampled_from([b"0", b"01", b"-1", b"1.0", b"%d" % 2**53, b"9" * 16, b'""', b'"a b"'])
    | (user_ids | PLAIN_IDS | st.just("a" * 129)).map(lambda text: b'"%b"' % text.encode()),
    name=PLAIN_TEXT.map(lambda text: b'"%b"' % text.encode()),
)


@given(
    SOMETHING_SAID,
    st.sampled_from([b"", b" ", b"\n", b",", b'"', b"{", b"\\", b"\x00", b"1", b"a"]),
    st.integers(0),
)
def test_what_is_recognised_as_plain_text_means_the_same_to_whoever_decodes_it(
    said: bytes, more: bytes, at: int
) -> None:
    at %= len(said) + 1
    payload = said[:at] + more + said[at:]

    plain = plain_message(payload)

    if plain is not None:
        body, user_id, name = (json.loads(part) for part in plain)
        decoded = Publication.decode(payload)
        assert decoded == Publication({"body": body}, Sender(user_id_from_json(user_id), name))
        assert decoded.encode() == payload


@pytest.mark.parametrize(
    "payload",
    [
        *(
            b'{"data":{"body":%b},"sender":{"user_id":1,"name":"Ann"}}' % body
            for body in (b'"\\n"', b'"\x7f"', b'"\xff"', b'"\n"', b"1")
        ),
        *(
            b'{"data":{"body":"a"},"sender":{"user_id":%b,"name":"A"}}' % user_id
            for user_id in (b'"7"', b"0", b"01", b'""', b'"a b"', b'"%b"' % (b"a" * 129))
        ),
        b'{"data":{"body":"a"},"sender":{"user_id":7,"name":"A"},"event_id":"e"}',
        b'{"data":{"body":"a"}}',
        b'{"data":{"text":"a"},"sender":{"user_id":7,"name":"A"}}',
        b' {"data":{"body":"a"},"sender":{"user_id":7,"name":"A"}}',
        b'{"data":{"body":"a"},"sender":{"user_id":7,"name":"A"}}\n',
    ],
    ids=repr,
)
def test_all_else_has_to_be_read_as_json(payload: bytes) -> None:
    assert plain_message(payload) is None
