"""Publishing into channels: answered with the offset once it is stored, and stored once."""

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pydantic_core
import structlog

from gateway.streams.history import History
from gateway.streams.ring import Kept
from shared.bus.client import TOO_LARGE
from shared.bus.errors import MessageRejected
from shared.bus.publisher import Publisher, Stored
from shared.bus.subjects import api_message_id, publication_subject, user_message_id
from shared.errors import AppError, ErrorKind
from shared.ids import ChannelName
from shared.publications import BadPublication, Publication, Sender

log = structlog.get_logger(__name__)


class IdReused(AppError):
    """Under this id something else was stored, so this was not."""

    kind = ErrorKind.CONFLICT
    code = "id_reused"

    def __init__(self) -> None:
        super().__init__("this id was used for another publication")


class PublicationTooLong(AppError):
    """No message of that size is stored, now or later."""

    kind = ErrorKind.INVALID
    code = "too_long"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"a publication has at most {max_bytes} bytes")


class PublicationRefused(AppError):
    """It can never be stored."""

    kind = ErrorKind.INVALID
    code = "refused"

    def __init__(self) -> None:
        super().__init__("this can't be published")


@dataclass(frozen=True, slots=True)
class PublishingLimits:
    """How much may be published at once, and how long that may take."""

    max_payload_bytes: int = 72 * 1024
    """The longest body of a request, with what a publication adds to it."""
    deadline_seconds: float = 5.0


class ChannelPublisher:
    """Publishes on behalf of users and of services; whether they may is judged above."""

    def __init__(
        self,
        publisher: Publisher,
        history: History,
        *,
        recent: Callable[[int], Kept | None] = lambda _offset: None,
        limits: PublishingLimits | None = None,
        on_answered: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """
        Args:
            recent: The publication at an offset, if it is in memory; saves asking the stream.
            on_answered: Gets the seconds from a publication to its answer, or to giving it up.
        """
        self._publisher = publisher
        self._history = history
        self._recent = recent
        self._limits = limits or PublishingLimits()
        self._on_answered = on_answered
        prefix = secrets.token_hex(16)
        self._own_ids = (f"{prefix}-{number}" for number in count(1))
        """For what comes without an id: nobody repeats it, so it only has to be another one."""

    async def publish_by_user(
        self, channel: ChannelName, sender: Sender, data: Any, *, client_id: str | None = None
    ) -> int:
        """Store what a user publishes; return its offset.

        Args:
            client_id: The user's own; within the dedupe window the channel gets it once.

        Raises:
            IdReused: the id stands for other data.
            PublicationTooLong, PublicationRefused: it can never be stored.
            BusUnavailable: unknown whether it is stored; try again with the same id.
        """
        message_id = user_message_id(sender.user_id, channel, client_id or next(self._own_ids))
        return await self._publish(channel, Publication(data=data, sender=sender), message_id)

    async def publish_by_service(
        self, channel: ChannelName, data: Any, *, key: str | None = None
    ) -> int:
        """Store what a service publishes; return its offset. Raises like `publish_by_user`.

        Args:
            key: Within the dedupe window the channel gets it once.
        """
        message_id = api_message_id(channel, key or next(self._own_ids))
        return await self._publish(channel, Publication(data=data), message_id)

    async def _publish(
        self, channel: ChannelName, publication: Publication, message_id: str
    ) -> int:
        try:
            payload = publication.encode()
        except pydantic_core.PydanticSerializationError as error:  # such as a lone surrogate
            raise PublicationRefused from error
        if len(payload) > self._limits.max_payload_bytes:
            raise PublicationTooLong(self._limits.max_payload_bytes)
        stored = await self._store(channel, payload, message_id)
        if stored.duplicate and not await self._is_same(stored.offset, payload):
            raise IdReused
        return stored.offset

    async def _store(self, channel: ChannelName, payload: bytes, message_id: str) -> Stored:
        began_at = time.monotonic()
        try:
            return await self._publisher.publish(
                publication_subject(channel),
                payload,
                message_id=message_id,
                deadline_seconds=self._limits.deadline_seconds,
            )
        except MessageRejected as rejected:
            if rejected.err_code == TOO_LARGE:
                raise PublicationTooLong(self._limits.max_payload_bytes) from rejected
            log.warning("publication_refused", channel=channel, reason=str(rejected))
            raise PublicationRefused from rejected
        finally:
            self._on_answered(time.monotonic() - began_at)

    async def _is_same(self, offset: int, payload: bytes) -> bool:
        """Whether what was stored first has the same data; what is gone is taken to have."""
        kept = self._recent(offset)
        if kept is not None:
            return _same_data(kept.payload, payload)
        message = await self._history.stored(offset)
        return message is None or _same_data(message.payload, payload)


def _same_data(one: bytes, other: bytes) -> bool:
    if one == other:
        return True
    try:
        first, second = Publication.decode(one), Publication.decode(other)
    except BadPublication:
        return False
    # As sorted text: to Python's == even True and 1 are the same.
    return json.dumps(first.data, sort_keys=True) == json.dumps(second.data, sort_keys=True)
