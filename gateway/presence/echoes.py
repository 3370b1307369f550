"""Knowing our own writes again when the stream shows them: they need no reading. Pure."""

from typing import NamedTuple

from gateway.presence.facts import Entry, EntryFact
from gateway.presence.subjects import EntryKey


class _Echo(NamedTuple):
    key: EntryKey
    body: bytes
    entry: Entry | None


class Echoes:
    """What was written, until its live copy comes."""

    def __init__(self, *, max_expected: int = 4096) -> None:
        """
        Args:
            max_expected: With so many, live copies don't come; then all are forgotten, and read.
        """
        self._max_expected = max_expected
        self._expected: dict[str, _Echo] = {}

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, name: str, key: EntryKey, body: bytes, entry: Entry | None) -> None:
        """This is being written under the name, in place of what was before."""
        if len(self._expected) >= self._max_expected:
            self._expected.clear()
        self._expected[name] = _Echo(key, body, entry)

    def recall(self, name: str, sequence: int, payload: bytes) -> EntryFact | None:
        """What the message says if it is the last that was written there; told once."""
        echo = self._expected.pop(name, None)
        if echo is None or echo.body != payload:
            return None
        return EntryFact(echo.key, sequence, echo.entry)
