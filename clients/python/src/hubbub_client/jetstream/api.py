"""JetStream's API (the subjects below ``$JS.API``): one method for each call that is used here.

A call is made once; retrying is the caller's. Any replica answers a read by Direct Get (NATS
ADR-31), and it may lag behind; the leader answers all other calls.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from hubbub_client.jetstream.clock import Clock, ClockComparison, our_clock
from hubbub_client.nats.client import Bus, Reply
from hubbub_client.nats.errors import BusUnavailable, StreamMissing
from hubbub_client.nats.headers import header, number, sequence_of, status

_API = "$JS.API"
_NANOSECONDS = 1_000_000_000

_END_OF_BATCH = 204
_NOT_FOUND = 404
_NO_CONSUMER = 10014
_NO_MESSAGE = 10037
_NO_STREAM = 10059

_NO_HEADERS = b"NATS/1.0\r\n\r\n"

Config = dict[str, Any]
"""Of a stream or a consumer, as JetStream writes it."""


class ApiError(BusUnavailable):
    """JetStream refuses; the status says whether it may accept the call later."""

    def __init__(self, what: str, error: Mapping[str, Any]) -> None:
        self.status: int = error.get("code", 0)
        self.err_code: int = error.get("err_code", 0)
        self.description: str = error.get("description", "")
        super().__init__(f"{what}: {self.description}")


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
        """The same in unix seconds, to the microsecond; None if it is unknown."""
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
    """A stream's state, by its leader."""

    first: int
    """The oldest sequence held; last + 1 if none is."""
    last: int
    """The newest sequence ever given."""
    last_time: str
    epoch: str
    clock_ahead_seconds: float = 0.0
    """By how much our clock is ahead of the leader's at least; negative if it is behind."""
    max_age_seconds: float = 0.0
    """Older messages are dropped; 0 if none are."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream's configuration and state."""

    config: Config
    created: str
    stored_bytes: int
    state: StreamState

    @property
    def metadata(self) -> dict[str, str]:
        return self.config.get("metadata") or {}


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer's configuration, and how far it has got."""

    config: Config
    ack_floor: int
    """Everything up to this sequence of the stream is acknowledged."""
    unsettled: int
    """How many messages were delivered, and are not acknowledged."""


class JetStreamApi:
    """The calls.

    Unless a method says otherwise, it raises:
        StreamMissing: there is no such stream.
        ApiError: JetStream refuses; this is a `BusUnavailable`.
        BusUnavailable: no answer, or no leader.
    """

    def __init__(self, bus: Bus, *, timeout_seconds: float = 2.0, now: Clock = our_clock) -> None:
        """
        Args:
            timeout_seconds: For each answer.
        """
        self._bus = bus
        self._timeout_seconds = timeout_seconds
        self._now = now

    async def stream_info(self, stream: str) -> StreamInfo:
        asked = ClockComparison(self._now)
        answer = await self.request("STREAM.INFO", stream)
        return _stream_info(answer, asked.ahead_seconds(answer.get("ts")))

    async def create_stream(self, config: Config) -> None:
        await self.request("STREAM.CREATE", config["name"], request=config)

    async def update_stream(self, config: Config) -> None:
        await self.request("STREAM.UPDATE", config["name"], request=config)

    async def purge_stream(self, stream: str, *, subject: str) -> int:
        """Remove the subject's messages; return how many."""
        answer = await self.request("STREAM.PURGE", stream, request={"filter": subject})
        purged: int = answer.get("purged", 0)
        return purged

    async def get_message(self, stream: str, request: Mapping[str, Any]) -> StoredMessage | None:
        """Ask the leader for one message, such as ``{"last_by_subj": "a.b"}``."""
        try:
            answer = await self.request("STREAM.MSG.GET", stream, request=request)
        except ApiError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise
        return _message_of_leader(answer["message"])

    async def direct_get(self, stream: str, request: Mapping[str, Any]) -> StoredMessage | None:
        """Ask any replica for one message, such as ``{"seq": 7}``.

        Raises:
            BusUnavailable: no answer, or no such stream.
        """
        [reply] = await self._direct_get(stream, request, only_one=True)
        code = status(reply.headers)
        if code is None:
            return _message(reply)
        if code == _NOT_FOUND:
            return None
        raise BusUnavailable(f"direct get answered {code}")

    async def direct_get_batch(self, stream: str, request: Mapping[str, Any]) -> Batch:
        """Ask any replica for several, such as ``{"seq": 7, "batch": 500}``.

        Raises:
            BusUnavailable: no answer, or not all of it, or no such stream.
        """
        *replies, end = await self._direct_get(stream, request, only_one=False)
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

    async def consumer_info(self, stream: str, consumer: str) -> ConsumerInfo | None:
        """None if there is no such consumer."""
        try:
            answer = await self.request("CONSUMER.INFO", stream, consumer)
        except ApiError as error:
            if error.err_code == _NO_CONSUMER:
                return None
            raise
        return ConsumerInfo(
            answer["config"], answer["ack_floor"]["stream_seq"], answer["num_ack_pending"]
        )

    async def create_consumer(self, stream: str, config: Config) -> None:
        """Create a durable consumer, or update it."""
        request = {"stream_name": stream, "config": config}
        name = config["durable_name"]
        await self.request("CONSUMER.DURABLE.CREATE", stream, name, request=request)

    def request_next(
        self,
        stream: str,
        consumer: str,
        *,
        batch: int,
        expires_seconds: float,
        group: str | None,
        pin: str | None,
        reply: str,
    ) -> None:
        """Ask for messages of a consumer; they and a status come to ``reply``.

        Args:
            group: Of a consumer that pins one of its clients (NATS ADR-42).

        Raises:
            BusUnavailable: not connected, or the send buffer is full.
        """
        request: dict[str, Any] = {
            "batch": batch,
            "expires": nanoseconds(expires_seconds),
        }
        if group is not None:
            request["group"] = group
        if pin is not None:
            request["id"] = pin
        subject = _subject("CONSUMER.MSG.NEXT", stream, consumer)
        self._bus.send(subject, json.dumps(request).encode(), reply=reply)

    def unpin(self, stream: str, consumer: str, *, group: str) -> None:
        """Let the server pin another client; raises like `request_next`."""
        subject = _subject("CONSUMER.UNPIN", stream, consumer)
        self._bus.send(subject, json.dumps({"group": group}).encode())

    async def request(
        self, call: str, *tokens: str, request: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make any call that the leader answers in JSON, such as ``STREAM.INFO``.

        Args:
            tokens: The stream, and the consumer in calls about one.
        """
        answer: dict[str, Any] = json.loads(
            await self._bus.request(
                _subject(call, *tokens),
                json.dumps(request).encode() if request else b"",
                timeout_seconds=self._timeout_seconds,
            )
        )
        error = answer.get("error")
        if error is None:
            return answer
        if error.get("err_code") == _NO_STREAM:
            raise StreamMissing(f"there is no stream {tokens[0]}")
        what = "stream" if len(tokens) == 1 else "consumer"
        raise ApiError(f"{what} {tokens[-1]}", error)

    async def _direct_get(
        self, stream: str, request: Mapping[str, Any], *, only_one: bool
    ) -> list[Reply]:
        return await self._bus.request_many(
            _subject("DIRECT.GET", stream),
            json.dumps(request).encode(),
            is_last=lambda reply: only_one or status(reply.headers) is not None,
            timeout_seconds=self._timeout_seconds,
        )


def nanoseconds(seconds: float) -> int:
    """A duration as JetStream writes it."""
    return round(seconds * _NANOSECONDS)


def _subject(call: str, *tokens: str) -> str:
    return ".".join((_API, call, *tokens))


def _stream_info(answer: Mapping[str, Any], clock_ahead_seconds: float) -> StreamInfo:
    config, state = answer["config"], answer["state"]
    return StreamInfo(
        config,
        answer.get("created", ""),
        state.get("bytes", 0),
        StreamState(
            first=max(state["first_seq"], 1),
            last=state["last_seq"],
            last_time=state["last_ts"],
            epoch=(config.get("metadata") or {}).get("epoch", ""),
            clock_ahead_seconds=clock_ahead_seconds,
            max_age_seconds=config.get("max_age", 0) / _NANOSECONDS,
        ),
    )


def _message(reply: Reply) -> StoredMessage:
    headers = reply.headers or b""
    subject = header(headers, b"Nats-Subject") or b""
    return StoredMessage(sequence_of(headers), subject.decode(), reply.payload, headers)


def _message_of_leader(answer: Mapping[str, Any]) -> StoredMessage:
    """In the form of Direct Get, where the time is a header."""
    headers = base64.b64decode(answer.get("hdrs", "")) or _NO_HEADERS
    time = f"Nats-Time-Stamp: {answer['time']}\r\n\r\n".encode()
    return StoredMessage(
        sequence=answer["seq"],
        subject=answer["subject"],
        payload=base64.b64decode(answer.get("data", "")),
        headers=headers.removesuffix(b"\r\n") + time,
    )


def _check_chain(messages: list[StoredMessage], last: int) -> None:
    """See that no reply got lost: each names the one before it, and the end names the last."""
    before = 0
    for message in messages:
        if number(message.headers, b"Nats-Last-Sequence") != before:
            raise BusUnavailable("a part of the batch got lost")
        before = message.sequence
    if messages and last != before:
        raise BusUnavailable("the end of the batch got lost")
