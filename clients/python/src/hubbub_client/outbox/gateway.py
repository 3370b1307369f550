"""A gateway as the relay's destination, for who has no more than an API key.

A publication goes into its channel, and an event into the channels of its recipients and its own,
as on the bus. The stream of events does not get it, so other services can't consume it.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice

from hubbub_client.client import Hubbub
from hubbub_client.contracts.channels import MAX_CHANNEL_BYTES, personal_channel
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import EVENTS, RT_PUB, channel_of
from hubbub_client.errors import (
    BadRequest,
    HubbubError,
    IdempotencyKeyReused,
    NotAvailable,
    TooLarge,
    Unavailable,
    UnknownChannel,
)
from hubbub_client.exchange import Limits, to_json
from hubbub_client.nats.errors import MessageRejected
from hubbub_client.publishing import PartlyPublished
from hubbub_client.results import Position

_NEVER = (BadRequest, IdempotencyKeyReused, NotAvailable, TooLarge, UnknownChannel)
_NO_CODE = 0
_LIMITS = Limits(deadline_seconds=2.5)
"""Less than `RelayLimits.publish_seconds`, so that the client can say what it has met."""
_NOWHERE = Position(0, "")
_MAX_PARTLY_TOLD = 100
"""Events of which it is remembered who has them."""


@dataclass(slots=True)
class _Told:
    """What became of an event so far."""

    settled: set[str] = field(default_factory=set)
    """Channels that have it, or never take it."""
    position: Position = _NOWHERE
    refusal: HubbubError | None = None


class Gateway:
    """Stores messages by the server API, with their ids as idempotency keys.

    An event of many recipients takes many requests. Who has it is remembered, so that another try
    goes on where the last one ended: it may be later than a key counts.
    """

    def __init__(self, hubbub: Hubbub) -> None:
        self._hubbub = hubbub
        self._partly_told: dict[str, _Told] = {}

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, deadline_seconds: float
    ) -> Position:
        """As `Destination.publish` says."""
        try:
            async with asyncio.timeout(deadline_seconds):
                return await self._publish(subject, payload, message_id)
        except TimeoutError:
            raise Unavailable("the gateway did not answer in time") from None
        except HubbubError as error:
            raise _failure_of(error) from error
        except ValueError as error:  # of a row that somebody else has written
            raise MessageRejected(_NO_CODE, str(error)) from error

    async def _publish(self, subject: str, payload: bytes, key: str) -> Position:
        if subject.startswith(RT_PUB):
            publication = Publication.decode(payload)
            return await self._hubbub.publish(
                channel_of(subject.removeprefix(RT_PUB)),
                publication.data,
                idempotency_key=key,
                tags=publication.tags,
                delta=publication.delta,
            )
        if subject.startswith(EVENTS):
            envelope = Envelope.read(payload)
            channels = [*map(personal_channel, envelope.recipients), *envelope.channels]
            return await self._tell(channels, envelope.to_publication_data(), key)
        raise MessageRejected(_NO_CODE, f"a gateway takes nothing on the subject {subject}")

    async def _tell(self, channels: Iterable[str], data: object, key: str) -> Position:
        told = self._partly_told.pop(key, None) or _Told()
        left = [each for each in dict.fromkeys(channels) if each not in told.settled]
        try:
            await self._tell_all(left, data, key, told)
        except BaseException:
            self._remember(key, told)
            raise
        if told.refusal is not None:
            raise told.refusal
        return told.position

    async def _tell_all(self, channels: Sequence[str], data: object, key: str, told: _Told) -> None:
        """
        Raises:
            HubbubError: some do not take it now.
        """
        problems: list[HubbubError] = []
        for some in _in_requests(channels, data):
            newly = await self._tell_some(some, data, key, told)
            problems += newly
            if len(newly) == len(some):
                break  # the others would fail, too
        if problems:
            raise problems[0]

    async def _tell_some(
        self, some: Sequence[str], data: object, key: str, told: _Told
    ) -> list[HubbubError]:
        """Why those of them do not take it now that may later."""
        outcomes: Sequence[Position | HubbubError]
        try:
            outcomes = await self._hubbub.broadcast(some, data, idempotency_key=key)
        except PartlyPublished as partly:
            outcomes = partly.outcomes
        except HubbubError as error:
            outcomes = [error] * len(some)
        problems: list[HubbubError] = []
        for channel, outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, HubbubError) and not isinstance(outcome, _NEVER):
                problems.append(outcome)
                continue
            told.settled.add(channel)
            if isinstance(outcome, Position):
                told.position = max(told.position, outcome)
            else:
                told.refusal = outcome
        return problems

    def _remember(self, key: str, told: _Told) -> None:
        if told.settled:
            self._partly_told[key] = told
        while len(self._partly_told) > _MAX_PARTLY_TOLD:
            del self._partly_told[next(iter(self._partly_told))]


def _in_requests(channels: Iterable[str], data: object) -> Iterator[list[str]]:
    """So many at a time that they are one request."""
    room = _LIMITS.max_body_bytes - len(to_json(data))
    count = max(1, min(_LIMITS.max_batch, room // MAX_CHANNEL_BYTES))
    waiting = iter(channels)
    while some := list(islice(waiting, count)):
        yield some


def _failure_of(error: HubbubError) -> Exception:
    reason = f"{error.code}: {error}"
    if isinstance(error, _NEVER):
        return MessageRejected(_NO_CODE, reason)
    return Unavailable(reason)  # a wrong key, too: somebody may correct it


def to_gateway(url: str, api_key: str) -> AbstractAsyncContextManager[Gateway]:
    """A destination that needs the key alone. A message has to fit into one request.

    Raises:
        ValueError: the URL is none of HTTP.
    """
    return _opened(Hubbub(url, api_key, limits=_LIMITS))


@asynccontextmanager
async def _opened(hubbub: Hubbub) -> AsyncGenerator[Gateway]:
    async with hubbub:
        yield Gateway(hubbub)
