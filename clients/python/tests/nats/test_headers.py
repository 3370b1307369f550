"""Header blocks, as bytes."""

import pytest

from hubbub_client.nats.errors import MessageRejected
from hubbub_client.nats.headers import (
    encode_headers,
    encode_message_id,
    header,
    number,
    sequence_of,
    status,
)


def test_a_block_is_written_as_the_server_reads_it() -> None:
    block = encode_headers({"Nats-Msg-Id": "a:1", "X": "é"})

    assert block == "NATS/1.0\r\nNats-Msg-Id: a:1\r\nX: é\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("name", "value"), [("X", "a\r\nY: b"), ("X", "\n"), ("X", "\x00"), ("", "a"), ("X Y", "a")]
)
def test_what_would_break_the_block_is_rejected(name: str, value: str) -> None:
    with pytest.raises(MessageRejected):
        encode_headers({name: value})


def test_a_publisher_cannot_forge_the_headers_of_the_server() -> None:
    block = b"NATS/1.0\r\nNats-Sequence: 77\r\nNats-Stream: RT\r\nNats-Sequence: 5\r\n\r\n"

    assert sequence_of(block) == 5
    assert header(block, b"Nats-Sequence") == b"5"


def test_a_header_that_is_not_there_is_none_or_zero() -> None:
    block = b"NATS/1.0\r\nA: 1\r\n\r\n"

    assert header(block, b"B") is None
    assert number(block, b"B") == 0
    with pytest.raises(ValueError, match="not found"):
        sequence_of(block)


def test_only_an_answer_without_a_message_has_a_status() -> None:
    assert status(b"NATS/1.0 404 Message Not Found\r\n\r\n") == 404
    assert status(b"NATS/1.0\r\nA: 1\r\n\r\n") is None
    assert status(None) is None


@pytest.mark.parametrize("message_id", ["a:1", "é", "", " "])
def test_the_usual_block_is_written_as_any_other(message_id: str) -> None:
    assert encode_message_id(message_id) == encode_headers({"Nats-Msg-Id": message_id})


@pytest.mark.parametrize("message_id", ["a\r\nY: b", "\n", "\x7f", "é\x00"])
def test_an_id_that_would_break_the_block_is_rejected(message_id: str) -> None:
    with pytest.raises(MessageRejected):
        encode_message_id(message_id)
