import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Envelope
from shared.ids import ChannelName, UserId
from shared.publications import BadPublication, Publication, Sender

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)
SENDERS = st.none() | st.builds(
    Sender, user_id=st.integers(1, 2**53).map(UserId), name=st.text(st.characters(codec="utf-8"))
)


@given(st.builds(Publication, data=JSON, sender=SENDERS))
def test_a_publication_survives_the_stream(publication: Publication) -> None:
    assert Publication.decode(publication.encode()) == publication


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
        b'"sender": {"user_id": "1", "name": "Ann"}',
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


def test_a_field_of_a_newer_writer_is_ignored() -> None:
    assert Publication.decode(b'{"data": null, "tags": {"a": "b"}}') == Publication(data=None)


def test_an_event_is_published_under_its_name_and_id() -> None:
    envelope = Envelope(
        type="post_liked",
        recipients=(UserId(1),),
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
