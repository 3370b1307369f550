"""Our own writes are recognised when their live copies come."""

import pytest

from gateway.presence.records import (
    REMOVAL_HEADERS,
    Entry,
    EntryKey,
    EntryRecord,
    entry_name,
    read_record,
)
from gateway.presence.writer import OwnWrites
from hubbub_client.contracts.ids import ChannelName, ConnectionId, NodeId, UserId
from hubbub_client.nats.headers import encode_headers

KEY = EntryKey((ChannelName("chat:lobby"), UserId("7")), NodeId("0f"))
NAME = entry_name(KEY)
ENTRY = Entry("Ann Ågren", 1.5, (ConnectionId("a"),))


@pytest.mark.parametrize("entry", [ENTRY, None])
def test_a_recognised_write_gives_the_record_that_would_have_been_read(entry: Entry | None) -> None:
    body = entry.encode() if entry is not None else b""
    headers = encode_headers({} if body else REMOVAL_HEADERS)
    own_writes = OwnWrites()
    own_writes.expect(NAME, KEY, body, entry)

    record = own_writes.recall(NAME, 3, body)

    assert record == EntryRecord(KEY, 3, entry) == read_record(NAME, 3, body, headers)


def test_another_write_under_the_same_name_is_not_recognised() -> None:
    own_writes = OwnWrites()
    own_writes.expect(NAME, KEY, ENTRY.encode(), ENTRY)

    assert own_writes.recall(NAME, 3, b"") is None
    assert own_writes.recall("chat:lobby.8.0f", 4, ENTRY.encode()) is None


def test_a_write_is_recognised_once() -> None:
    own_writes = OwnWrites()
    own_writes.expect(NAME, KEY, ENTRY.encode(), ENTRY)
    own_writes.recall(NAME, 3, ENTRY.encode())

    assert own_writes.recall(NAME, 3, ENTRY.encode()) is None
    assert len(own_writes) == 0


def test_writes_whose_copies_never_come_are_forgotten() -> None:
    own_writes = OwnWrites(max_expected=10)

    for number in range(100):
        own_writes.expect(f"chat:lobby.{number}.0f", KEY, b"{}", ENTRY)
        assert len(own_writes) <= 10
