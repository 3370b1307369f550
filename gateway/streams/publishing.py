"""Publishing into channels. Each publication is stored once and answered with its offset."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import structlog

from gateway.streams.history import History
from hubbub_client.contracts.errors import AppError, ErrorKind
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import BadPublication, Publication, StoredPublication
from hubbub_client.contracts.subjects import api_message_id, publication_subject, user_message_id
from hubbub_client.jetstream.publisher import PubAck, PubAckResult, Publisher, Sending
from hubbub_client.nats.client import TOO_LARGE
from hubbub_client.nats.errors import BusUnavailable, MessageRejected

log = structlog.get_logger(__name__)


class IdReused(AppError):
    """Another publication was stored under this id, so this one was not."""

    kind = ErrorKind.CONFLICT
    code = "id_reused"

    def __init__(self) -> None:
        super().__init__("this id was used for another publication")


class PublicationTooLong(AppError):
    """It is too long to be stored, now or later."""

    kind = ErrorKind.INVALID
    code = "too_long"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"a publication has at most {max_bytes} bytes")


class PublicationRefused(AppError):
    """It can never be stored."""

    kind = ErrorKind.INVALID
    code = "refused"

    def __init__(self, why: str = "the bus refuses it") -> None:
        super().__init__(f"this can't be published: {why}")


PublishResult = PubAck | AppError
"""The bus's ack, or why there is none. After `BusUnavailable` the publication may be stored or not;
it can be sent again with the same id. If the ack says ``duplicate``, something was stored under the
id before: see `ChannelPublisher.resolve_duplicate`."""

OnDone = Callable[[PublishResult], None]


@dataclass(frozen=True, slots=True)
class PublishingLimits:
    """How long a publication may be, and how long storing it may take."""

    deadline_seconds: float
    max_payload_bytes: int = 72 * 1024
    """The longest body of a request, and what a publication adds to it."""
    stuck_seconds: float = 10.0
    """How long `ChannelPublisher.stuck` is true after the bus did not store in time."""


def encode(publication: Publication, *, max_bytes: int) -> bytes:
    """A publication as it is sent to the bus.

    Raises:
        PublicationTooLong, PublicationRefused: it can never be.
    """
    try:
        payload = publication.encode()
    except BadPublication as error:
        raise PublicationRefused(str(error)) from error
    if len(payload) > max_bytes:
        raise PublicationTooLong(max_bytes)
    return payload


class ChannelPublisher:
    """Publishes for users and services. The caller checks whether they may."""

    def __init__(
        self,
        publisher: Publisher,
        history: History,
        *,
        recent: Callable[[int], StoredPublication | None] = lambda _offset: None,
        limits: PublishingLimits,
        on_answered: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """
        Args:
            recent: The publication at an offset if it is in memory, which saves a request.
            on_answered: Gets the seconds from a publication to its answer or its deadline.
        """
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call
        self._publisher = publisher
        self._history = history
        self._recent = recent
        self._limits = limits
        self._on_answered = on_answered
        self._stuck_until: float | None = None
        prefix = secrets.token_hex(16)
        self._own_ids = (f"own:{prefix}-{number}" for number in count(1))
        """For publications without an id: nobody repeats them, so it only has to be unique, and
        unlike those of `hubbub_client.contracts.subjects`."""

    @property
    def stuck(self) -> bool:
        """Whether the bus failed to store the last publication in time, a short while ago."""
        return self._stuck_until is not None and time.monotonic() < self._stuck_until

    def bus_came_back(self) -> None:
        """Forget that it was stuck: after a reconnect it may store again."""
        self._stuck_until = None

    def send_by_user(
        self,
        channel: ChannelName,
        publication: Publication,
        on_done: OnDone,
        *,
        client_id: str | None = None,
    ) -> None:
        """Store what a user publishes, and call back with the result. Never waits.

        Args:
            publication: It has a sender.
            on_done: Called once, after this has returned.
            client_id: Chosen by the client. Within the dedupe window it is stored once.

        Raises:
            PublicationTooLong, PublicationRefused: it can never be stored.
        """
        assert publication.sender is not None
        user_id = publication.sender.user_id
        message_id = (
            user_message_id(user_id, channel, client_id) if client_id else next(self._own_ids)
        )
        self._send(channel, self.encode(publication), message_id, on_done)

    def encode(self, publication: Publication) -> bytes:
        """As it is stored.

        Raises:
            PublicationTooLong, PublicationRefused: it can never be.
        """
        return encode(publication, max_bytes=self._limits.max_payload_bytes)

    def publish_by_service(
        self,
        channel: ChannelName,
        publication: Publication,
        *,
        key: str | None = None,
        encoded: bytes | None = None,
    ) -> "Stored":
        """Store what a service publishes; awaited, the result gives its offset.

        Args:
            encoded: What `encode` gave for it, if it goes into other channels too.
            key: Within the dedupe window it is stored once in the channel.

        Raises:
            PublicationTooLong, PublicationRefused: it can never be stored.
        """
        message_id = api_message_id(channel, key) if key else next(self._own_ids)
        stored = Stored(self, publication.data, self._loop.create_future())
        payload = self.encode(publication) if encoded is None else encoded
        stored.sending = self._send(channel, payload, message_id, stored.on_done)
        return stored

    def forget(self, sending: Sending) -> None:
        """Don't send it again; it may be stored all the same."""
        self._publisher.forget(sending)

    async def resolve_duplicate(self, ack: PubAck, data: Any) -> int:
        """Return the offset of the publication that was stored first, if it has the same data.

        If that one is no longer in the stream, it is taken to have the same data.

        Raises:
            IdReused: it has other data.
            BusUnavailable: the stream doesn't answer; try again with the same id.
        """
        first = self._recent(ack.offset) or await self._history.stored(ack.offset)
        if first is not None and not _has_data(first.payload, data):
            raise IdReused
        return ack.offset

    def _send(
        self, channel: ChannelName, payload: bytes, message_id: str, on_done: OnDone
    ) -> Sending:
        return self._publisher.send(
            publication_subject(channel),
            payload,
            message_id=message_id,
            on_done=partial(self._done, channel, time.monotonic(), on_done),
            deadline_seconds=self._limits.deadline_seconds,
        )

    def _done(
        self, channel: ChannelName, began_at: float, on_done: OnDone, result: PubAckResult
    ) -> None:
        now = time.monotonic()
        self._on_answered(now - began_at)
        if isinstance(result, PubAck):
            self._stuck_until = None
        elif isinstance(result, BusUnavailable):
            if now - began_at >= self._limits.deadline_seconds:  # else it failed for another reason
                self._stuck_until = now + self._limits.stuck_seconds
        else:
            on_done(self._refusal(channel, result))
            return
        on_done(result)

    def _refusal(self, channel: ChannelName, rejected: MessageRejected) -> AppError:
        if rejected.err_code == TOO_LARGE:
            return PublicationTooLong(self._limits.max_payload_bytes)
        log.warning("publication_refused", channel=channel, reason=str(rejected))
        return PublicationRefused()


class Stored:
    """What a service publishes, on its way to the stream. It is awaited once.

    Raises, when it is awaited:
        IdReused: the key stands for other data.
        PublicationTooLong, PublicationRefused: it can never be stored.
        BusUnavailable: it may be stored or not; try again with the same key.
    """

    __slots__ = ("_data", "_publisher", "_result", "sending")

    def __init__(
        self, publisher: ChannelPublisher, data: Any, result: asyncio.Future[PublishResult]
    ) -> None:
        self._publisher = publisher
        self._data = data
        self._result = result
        self.sending: Sending

    def on_done(self, result: PublishResult) -> None:
        if not self._result.done():  # else who waited was cancelled
            self._result.set_result(result)

    def __await__(self) -> Generator[Any, None, int]:
        try:
            result = yield from self._result
        except BaseException:  # nobody waits for it any more
            self._publisher.forget(self.sending)
            raise
        if isinstance(result, AppError):
            raise result
        if result.duplicate:
            return (yield from self._publisher.resolve_duplicate(result, self._data).__await__())
        return result.offset


def _has_data(payload: bytes, data: Any) -> bool:
    try:
        stored = Publication.decode(payload).data
        sent = Publication.decode(Publication(data).encode()).data  # as it is read when stored
    except BadPublication:
        return False
    # Compared as sorted JSON, since Python's == takes True and 1 for the same.
    return json.dumps(stored, sort_keys=True) == json.dumps(sent, sort_keys=True)
