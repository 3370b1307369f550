"""Reading a stream from any of its replicas, many messages at a time (NATS ADR-31)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from shared.jetstream.clock import Clock, Stopwatch, our_clock
from shared.nats.client import Bus, Reply
from shared.nats.errors import BusUnavailable, StreamMissing
from shared.nats.headers import header, number, sequence_of, status

_END_OF_BATCH = 204
_NOT_FOUND = 404
_NO_SUCH_STREAM = 10059
_NO_MESSAGE = 10037


class StoredMessage(NamedTuple):
    """A message as its stream holds it."""

    sequence: int
    subject: str
    payload: bytes
    headers: bytes

    @property
    def time(self) -> str:
        """When it was stored: RFC 3339 as NATS wrote it, so equal moments are equal texts."""
        return (header(self.headers, b"Nats-Time-Stamp") or b"").decode()

    @property
    def stored_at(self) -> float | None:
        """The same in unix seconds, to the microsecond; None if nothing says it."""
        try:
            return datetime.fromisoformat(self.time).timestamp()
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Batch:
    """One answer to a batch request."""

    messages: list[StoredMessage]
    pending: int
    """How many more match, beyond this batch."""
    up_to: int | None
    """Of a ``multi_last`` request: the answering replica's last sequence."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the stream's leader says of it."""

    first: int
    """The oldest sequence held; last + 1 if none is."""
    last: int
    """The newest sequence ever given."""
    last_time: str
    epoch: str
    clock_ahead_seconds: float = 0.0
    """Of ours before the leader's, at least; negative if it is behind."""
    age_seconds: float = 0.0
    """Since the stream was made, by the server's clock."""


class DirectGet:
    """Reads one stream. A replica may lag, so its end may be missing from an answer."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._subject = f"$JS.API.DIRECT.GET.{stream}"

    async def batch(self, request: Mapping[str, Any], *, timeout_seconds: float = 2.0) -> Batch:
        """Read what the request asks for, such as ``{"seq": 7, "batch": 500}``.

        Raises:
            BusUnavailable: no answer, or one of which a part got lost.
        """
        *replies, end = await self._bus.request_many(
            self._subject,
            json.dumps(request).encode(),
            is_last=lambda reply: status(reply.headers) is not None,
            timeout_seconds=timeout_seconds,
        )
        code = status(end.headers)
        if code == _NOT_FOUND:
            return Batch([], 0, None)
        if code != _END_OF_BATCH or end.headers is None:
            raise BusUnavailable(f"direct get answered {code}")
        messages = [_message(reply) for reply in replies]
        _check_chain(messages, number(end.headers, b"Nats-Last-Sequence"))
        up_to = header(end.headers, b"Nats-UpTo-Sequence")
        return Batch(
            messages,
            number(end.headers, b"Nats-Num-Pending"),
            int(up_to) if up_to is not None else None,
        )

    async def message(self, sequence: int, *, timeout_seconds: float = 2.0) -> StoredMessage | None:
        """The message with that sequence, if the answering replica has it."""
        return await self._one({"seq": sequence}, timeout_seconds=timeout_seconds)

    async def last_of(self, subject: str, *, timeout_seconds: float = 2.0) -> StoredMessage | None:
        """The newest message of the subject, if the answering replica has one."""
        return await self._one({"last_by_subj": subject}, timeout_seconds=timeout_seconds)

    async def _one(
        self, request: Mapping[str, Any], *, timeout_seconds: float
    ) -> StoredMessage | None:
        [reply] = await self._bus.request_many(
            self._subject,
            json.dumps(request).encode(),
            is_last=lambda _: True,
            timeout_seconds=timeout_seconds,
        )
        code = status(reply.headers)
        if code is None:
            return _message(reply)
        if code == _NOT_FOUND:
            return None
        raise BusUnavailable(f"direct get answered {code}")


async def stream_state(
    bus: Bus, stream: str, *, timeout_seconds: float = 2.0, now: Clock = our_clock
) -> StreamState:
    """Ask the stream's leader.

    Raises:
        StreamMissing: there is no such stream.
        BusUnavailable: no answer, or no leader.
    """
    asked = Stopwatch(now)
    answer = json.loads(
        await bus.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout_seconds=timeout_seconds)
    )
    clock_ahead_seconds = asked.ahead_seconds(answer.get("ts"))
    error = answer.get("error")
    if error is not None:
        if error.get("err_code") == _NO_SUCH_STREAM:
            raise StreamMissing(f"there is no stream {stream}")
        raise BusUnavailable(f"stream {stream}: {error.get('description')}")
    state = answer["state"]
    return StreamState(
        first=max(state["first_seq"], 1),
        last=state["last_seq"],
        last_time=state["last_ts"],
        epoch=(answer["config"].get("metadata") or {}).get("epoch", ""),
        clock_ahead_seconds=clock_ahead_seconds,
        age_seconds=_age_seconds(answer),
    )


async def leader_holds_from(
    bus: Bus, stream: str, sequence: int, *, timeout_seconds: float = 2.0
) -> bool:
    """Whether anything is stored at or after the sequence: the leader can't be behind.

    Raises:
        BusUnavailable: no answer, or no leader.
    """
    request = {"seq": sequence, "next_by_subj": ">"}
    answer = json.loads(
        await bus.request(
            f"$JS.API.STREAM.MSG.GET.{stream}",
            json.dumps(request).encode(),
            timeout_seconds=timeout_seconds,
        )
    )
    error = answer.get("error")
    if error is None:
        return True
    if error.get("err_code") == _NO_MESSAGE:
        return False
    raise BusUnavailable(f"stream {stream}: {error.get('description')}")


def _age_seconds(answer: Mapping[str, Any]) -> float:
    if "ts" not in answer or "created" not in answer:
        return 0.0
    # Which cuts nanoseconds off.
    now, created = map(datetime.fromisoformat, (answer["ts"], answer["created"]))
    return (now - created).total_seconds()


def _message(reply: Reply) -> StoredMessage:
    headers = reply.headers or b""
    subject = header(headers, b"Nats-Subject") or b""
    return StoredMessage(sequence_of(headers), subject.decode(), reply.payload, headers)


def _check_chain(messages: list[StoredMessage], last: int) -> None:
    """Replies are sent at most once: each names the one before it, and the end the last."""
    before = 0
    for message in messages:
        if number(message.headers, b"Nats-Last-Sequence") != before:
            raise BusUnavailable("a part of the batch got lost")
        before = message.sequence
    if messages and last != before:
        raise BusUnavailable("the end of the batch got lost")
