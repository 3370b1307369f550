"""Our own writes, known again when they come back."""

import pytest

from gateway.presence.records import Entry, EntryKey, EntryRecord, entry_name, read_record
from gateway.presence.writer import OwnWrites
from shared.contracts.ids import ChannelName, ConnectionId, NodeId, UserId

KEY = EntryKey((ChannelName("chat:lobby"), UserId("7")), NodeId("0f"))
NAME = entry_name(KEY)
ENTRY = Entry("Ann Ågren", 1.5, (ConnectionId("a"),))


@pytest.mark.parametrize("entry", [ENTRY, None])
def test_what_is_known_again_is_what_would_have_been_read(entry: Entry | None) -> None:
    body = entry.encode() if entry is not None else b""
    own_writes = OwnWrites()
    own_writes.expect(NAME, KEY, body, entry)

    fact = own_writes.recall(NAME, 3, body)

    assert fact == EntryRecord(KEY, 3, entry) == read_record(NAME, 3, body, b"")


def test_what_somebody_else_wrote_there_has_to_be_read() -> None:
    own_writes = OwnWrites()
    own_writes.expect(NAME, KEY, ENTRY.encode(), ENTRY)

    assert own_writes.recall(NAME, 3, b"") is None
    assert own_writes.recall("chat:lobby.8.0f", 4, ENTRY.encode()) is None


def test_an_echo_is_told_once() -> None:
    own_writes = OwnWrites()
    own_writes.expect(NAME, KEY, ENTRY.encode(), ENTRY)
    own_writes.recall(NAME, 3, ENTRY.encode())

    assert own_writes.recall(NAME, 3, ENTRY.encode()) is None
    assert len(own_writes) == 0


def test_echoes_that_never_come_are_forgotten() -> None:
    own_writes = OwnWrites(max_expected=10)

    for number in range(100):
        own_writes.expect(f"chat:lobby.{number}.0f", KEY, b"{}", ENTRY)
        assert len(own_writes) <= 10
