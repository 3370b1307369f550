"""Reading one stream: from any replica, which is cheap, or from the leader, which never lags.

A replica's answer may lack the end of the stream. To miss nothing, read from replicas and ask the
leader what comes after.
"""

from collections.abc import Mapping
from typing import Any

from hubbub_client.jetstream.api import Batch, JetStreamApi, StoredMessage, StreamState
from hubbub_client.jetstream.clock import Clock, our_clock
from hubbub_client.nats.client import Bus


class StreamReader:
    """Reads of one stream, each with the same timeout and without retries.

    Every method raises `BusUnavailable` if there is no answer; those that ask the leader raise
    `StreamMissing` if there is no such stream.
    """

    def __init__(
        self, bus: Bus, stream: str, *, answer_seconds: float = 2.0, now: Clock = our_clock
    ) -> None:
        self._api = JetStreamApi(bus, timeout_seconds=answer_seconds, now=now)
        self._stream = stream

    async def batch(self, request: Mapping[str, Any]) -> Batch:
        """A replica's answer to a request such as ``{"seq": 7, "batch": 500}``."""
        return await self._api.direct_get_batch(self._stream, request)

    async def message(self, sequence: int) -> StoredMessage | None:
        """The message with that sequence, if the answering replica has it."""
        return await self._api.direct_get(self._stream, {"seq": sequence})

    async def last_of(self, subject: str) -> StoredMessage | None:
        """The newest message of the subject, if the answering replica has one."""
        return await self._api.direct_get(self._stream, {"last_by_subj": subject})

    async def state(self) -> StreamState:
        """Where the stream begins and ends, by its leader."""
        return (await self._api.stream_info(self._stream)).state

    async def next_on_leader(self, subject: str, sequence: int) -> StoredMessage | None:
        """The first message of the subject at or after the sequence."""
        request = {"seq": sequence, "next_by_subj": subject}
        return await self._api.get_message(self._stream, request)

    async def last_on_leader(self, subject: str) -> StoredMessage | None:
        """The newest message of the subject."""
        return await self._api.get_message(self._stream, {"last_by_subj": subject})

    async def message_on_leader(self, sequence: int) -> StoredMessage | None:
        """The message with that sequence."""
        return await self._api.get_message(self._stream, {"seq": sequence})
