"""Our own writes are recognised when their live copies come."""

import pytest

from gateway.presence.own_writes import OwnWrite, OwnWrites
from gateway.presence.records import REMOVAL_HEADERS, Entry, EntryKey, NodeId, entry_name
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from hubbub_client.jetstream.publisher import Sending
from hubbub_client.nats.headers import encode_headers

KEY = EntryKey((ChannelName("chat:lobby"), UserId("7")), NodeId("0f"))
NAME = entry_name(KEY)
ENTRY = Entry("Ann Ågren", 1.5, (ConnectionId("a"),))


BODY = ENTRY.encode()
NO_HEADERS = encode_headers({})


def a_write(body: bytes = BODY, entry: Entry | None = ENTRY) -> OwnWrite:
    return OwnWrite(KEY, body, entry, Sending(NAME, body, lambda _: None, 0, 0, asks=False))


@pytest.mark.parametrize("write", [a_write(), a_write(b"", None)])
def test_a_write_is_recognised_by_its_name_and_body(write: OwnWrite) -> None:
    headers = NO_HEADERS if write.body else encode_headers(REMOVAL_HEADERS)
    own_writes = OwnWrites()
    own_writes.expect(NAME, write)

    assert own_writes.recall(NAME, write.body, headers) is write


def test_another_write_under_the_same_name_is_not_recognised() -> None:
    own_writes = OwnWrites()
    own_writes.expect(NAME, a_write())

    assert own_writes.recall("chat:lobby.8.0f", BODY, NO_HEADERS) is None
    assert own_writes.recall(NAME, b"{}", NO_HEADERS) is None


def test_what_is_empty_and_no_removal_is_not_taken_for_one() -> None:
    own_writes = OwnWrites()
    own_writes.expect(NAME, a_write(b"", None))

    assert own_writes.recall(NAME, b"", NO_HEADERS) is None


def test_a_write_is_recognised_once() -> None:
    own_writes = OwnWrites()
    own_writes.expect(NAME, a_write())
    own_writes.recall(NAME, BODY, NO_HEADERS)

    assert own_writes.recall(NAME, BODY, NO_HEADERS) is None
    assert len(own_writes) == 0


def test_writes_whose_copies_never_come_are_forgotten() -> None:
    own_writes = OwnWrites(max_expected=10)

    for number in range(100):
        own_writes.expect(f"chat:lobby.{number}.0f", a_write())
        assert len(own_writes) <= 10
