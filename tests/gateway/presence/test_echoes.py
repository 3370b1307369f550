"""Our own writes, known again when they come back."""

import pytest

from gateway.presence.echoes import Echoes
from gateway.presence.facts import Entry, EntryFact, read_fact
from gateway.presence.subjects import EntryKey, entry_name
from shared.ids import ChannelName, ConnectionId, NodeId, UserId

KEY = EntryKey((ChannelName("chat:lobby"), UserId(7)), NodeId("0f"))
NAME = entry_name(KEY)
ENTRY = Entry("Ann Ågren", 1.5, (ConnectionId("a"),))


@pytest.mark.parametrize("entry", [ENTRY, None])
def test_what_is_known_again_is_what_would_have_been_read(entry: Entry | None) -> None:
    body = entry.encode() if entry is not None else b""
    echoes = Echoes()
    echoes.expect(NAME, KEY, body, entry)

    fact = echoes.recall(NAME, 3, body)

    assert fact == EntryFact(KEY, 3, entry) == read_fact(NAME, 3, body, b"")


def test_what_somebody_else_wrote_there_has_to_be_read() -> None:
    echoes = Echoes()
    echoes.expect(NAME, KEY, ENTRY.encode(), ENTRY)

    assert echoes.recall(NAME, 3, b"") is None
    assert echoes.recall("chat:lobby.8.0f", 4, ENTRY.encode()) is None


def test_an_echo_is_told_once() -> None:
    echoes = Echoes()
    echoes.expect(NAME, KEY, ENTRY.encode(), ENTRY)
    echoes.recall(NAME, 3, ENTRY.encode())

    assert echoes.recall(NAME, 3, ENTRY.encode()) is None
    assert len(echoes) == 0


def test_echoes_that_never_come_are_forgotten() -> None:
    echoes = Echoes(max_expected=10)

    for number in range(100):
        echoes.expect(f"chat:lobby.{number}.0f", KEY, b"{}", ENTRY)
        assert len(echoes) <= 10
