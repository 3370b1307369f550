"""Reading one stream: many messages from any replica, single ones from the leader.

A replica may lag, so the end of the stream may be missing from its answer; the leader
costs more, is one for all, and is never behind. Who must not miss anything reads from
replicas and asks the leader what comes after.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from shared.jetstream.direct_get import Batch, DirectGet, StoredMessage, StreamState, stream_state
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable, StreamMissing

_NO_MESSAGE = 10037
_NO_STREAM = 10059
_NO_HEADERS = b"NATS/1.0\r\n\r\n"


class StreamReader:
    """All reads of one stream, each with the same patience; none is tried twice."""

    def __init__(self, bus: Bus, stream: str, *, answer_seconds: float = 2.0) -> None:
        self._bus = bus
        self._stream = stream
        self._direct = DirectGet(bus, stream)
        self._answer_seconds = answer_seconds

    async def batch(self, request: Mapping[str, Any]) -> Batch:
        """Read from any replica what the request asks for, such as ``{"seq": 7, "batch": 500}``.

        Raises:
            BusUnavailable: no answer, or one of which a part got lost.
        """
        return await self._direct.batch(request, timeout_seconds=self._answer_seconds)

    async def state(self) -> StreamState:
        """Ask the leader where the stream begins and ends.

        Raises:
            StreamMissing: there is no such stream.
            BusUnavailable: no answer, or no leader.
        """
        return await stream_state(self._bus, self._stream, timeout_seconds=self._answer_seconds)

    async def next_on_leader(self, subject: str, sequence: int) -> StoredMessage | None:
        """The first message of the subject at or after the sequence.

        Raises:
            StreamMissing: there is no such stream.
            BusUnavailable: no answer, or no leader.
        """
        return await self._ask_leader({"seq": sequence, "next_by_subj": subject})

    async def last_on_leader(self, subject: str) -> StoredMessage | None:
        """The newest message of the subject; raises like `next_on_leader`."""
        return await self._ask_leader({"last_by_subj": subject})

    async def message_on_leader(self, sequence: int) -> StoredMessage | None:
        """The message with that sequence; raises like `next_on_leader`."""
        return await self._ask_leader({"seq": sequence})

    async def _ask_leader(self, request: Mapping[str, Any]) -> StoredMessage | None:
        answer = json.loads(
            await self._bus.request(
                f"$JS.API.STREAM.MSG.GET.{self._stream}",
                json.dumps(request).encode(),
                timeout_seconds=self._answer_seconds,
            )
        )
        error = answer.get("error")
        if error is None:
            return _message(answer["message"])
        if error.get("err_code") == _NO_MESSAGE:
            return None
        if error.get("err_code") == _NO_STREAM:
            raise StreamMissing(f"there is no stream {self._stream}")
        raise BusUnavailable(f"stream {self._stream}: {error.get('description')}")


def _message(answer: Mapping[str, Any]) -> StoredMessage:
    """Give the leader's answer the form of a replica's, which has the time among the headers."""
    headers = base64.b64decode(answer.get("hdrs", "")) or _NO_HEADERS
    time = f"Nats-Time-Stamp: {answer['time']}\r\n\r\n".encode()
    return StoredMessage(
        sequence=answer["seq"],
        subject=answer["subject"],
        payload=base64.b64decode(answer.get("data", "")),
        headers=headers.removesuffix(b"\r\n") + time,
    )
