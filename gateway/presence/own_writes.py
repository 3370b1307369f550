"""Recognises what this node wrote, when it comes back with all that is written."""

from typing import NamedTuple

from gateway.presence.records import Entry, EntryKey, is_removal
from hubbub_client.jetstream.publisher import Sending


class OwnWrite(NamedTuple):
    """A write of this node."""

    key: EntryKey
    body: bytes
    entry: Entry | None
    sending: Sending


class OwnWrites:
    """Remembers each write until its live copy comes. So the copy need not be parsed, and says
    that the write is stored."""

    def __init__(self, *, max_expected: int = 4096) -> None:
        """
        Args:
            max_expected: When so many copies are missing, forget all writes; copies that come
                later are parsed.
        """
        self._max_expected = max_expected
        self._expected: dict[str, OwnWrite] = {}

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, name: str, write: OwnWrite) -> None:
        """Expect the live copy of this write, and of no earlier one under the same name."""
        if len(self._expected) >= self._max_expected:
            self._expected.clear()
        self._expected[name] = write

    def recall(self, name: str, payload: bytes, headers: bytes) -> OwnWrite | None:
        """The last write under that name, if the message is its copy; returned once."""
        written = self._expected.pop(name, None)
        if written is None or written.body != payload:
            return None
        if not payload and not is_removal(headers):  # others may leave nothing in its place, too
            return None
        return written
