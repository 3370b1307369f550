"""A stream in memory that answers like JetStream; `test_history.py` compares the two."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.api import Batch, StoredMessage, StreamState
from hubbub_client.jetstream.stream_reader import StreamReader

STATE = "state"
BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)


async def _nothing() -> None:
    pass


class ModelStream(StreamReader):
    """The stream RT. Its leader has all messages; its replicas may lack the newest."""

    def __init__(
        self,
        *,
        lag: Callable[[], int] = lambda: 0,
        meanwhile: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """
        Args:
            lag: Returns how many of the newest messages the replica lacks that answers.
            meanwhile: Awaited before and after each answer, for whatever else happens then.
        """
        self.epoch = "epoch-1"
        self.first = 1
        self.messages: list[StoredMessage] = []
        self.asked = Counter[str]()
        """How often for each subject; `STATE` is for the state."""
        self.read = 0
        """How many messages were sent in batches."""
        self._lag = lag
        self._meanwhile = meanwhile

    @property
    def last(self) -> int:
        return len(self.messages)

    def add(self, channel: ChannelName, payload: bytes, message_id: str = "") -> int:
        sequence = self.last + 1
        time = (BEGAN_AT + timedelta(seconds=sequence)).isoformat()
        headers = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\nNats-Time-Stamp: {time}\r\n\r\n"
        subject = publication_subject(channel)
        self.messages.append(StoredMessage(sequence, subject, payload, headers.encode()))
        return sequence

    def drop(self, count: int) -> None:
        """Remove the oldest messages, as retention does."""
        self.first = min(self.first + count, self.last + 1)

    async def batch(self, request: Mapping[str, Any]) -> Batch:
        subject = request.get("next_by_subj", ">")
        self.asked[subject] += 1
        await self._meanwhile()
        held = self.messages[self.first - 1 : max(self.last - self._lag(), 0)]
        found = [
            each for each in held if subject in (">", each.subject) and _is_asked(each, request)
        ]
        messages: list[StoredMessage] = []
        size = 0
        for each in found[: request["batch"]]:
            size += len(each.payload) + len(each.subject) + len(each.headers)
            if messages and size > request.get("max_bytes", size):
                break
            messages.append(each)
        self.read += len(messages)
        answer = Batch(messages, len(found) - len(messages), None)
        await self._meanwhile()
        return answer

    async def state(self) -> StreamState:
        self.asked[STATE] += 1
        await self._meanwhile()
        state = StreamState(self.first, self.last, "", self.epoch)
        await self._meanwhile()
        return state

    async def next_on_leader(self, subject: str, sequence: int) -> StoredMessage | None:
        self.asked[subject] += 1
        await self._meanwhile()
        held = [each for each in self.messages[self.first - 1 :] if each.subject == subject]
        answer = next((each for each in held if each.sequence >= sequence), None)
        await self._meanwhile()
        return answer

    async def last_on_leader(self, subject: str) -> StoredMessage | None:
        self.asked[subject] += 1
        await self._meanwhile()
        held = [each for each in self.messages[self.first - 1 :] if each.subject == subject]
        answer = held[-1] if held else None
        await self._meanwhile()
        return answer

    async def message_on_leader(self, sequence: int) -> StoredMessage | None:
        is_held = self.first <= sequence <= self.last
        return self.messages[sequence - 1] if is_held else None


def _is_asked(message: StoredMessage, request: Mapping[str, Any]) -> bool:
    if "start_time" in request:
        since = datetime.fromisoformat(request["start_time"])
        return datetime.fromisoformat(message.time) >= since
    return bool(message.sequence >= request["seq"])
