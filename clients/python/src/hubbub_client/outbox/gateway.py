"""A gateway as the relay's destination, for who has no more than an API key.

A publication goes into its channel, and an event into the channels of its recipients and its own,
as on the bus. The stream of events does not get it, so other services can't consume it.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from hubbub_client.client import Hubbub
from hubbub_client.contracts.channels import personal_channel
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
from hubbub_client.exchange import Limits
from hubbub_client.nats.errors import MessageRejected
from hubbub_client.publishing import PartlyPublished
from hubbub_client.results import Position

_NEVER = (BadRequest, IdempotencyKeyReused, NotAvailable, TooLarge, UnknownChannel)
_NO_CODE = 0
_LIMITS = Limits(deadline_seconds=2.5)
"""Less than `RelayLimits.publish_seconds`, so that the client can say what it has met."""


class Gateway:
    """Stores messages by the server API, with their ids as idempotency keys."""

    def __init__(self, hubbub: Hubbub) -> None:
        self._hubbub = hubbub

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, deadline_seconds: float
    ) -> Position:
        """As `Destination.publish` says."""
        try:
            async with asyncio.timeout(deadline_seconds):
                return await self._publish(subject, payload, message_id)
        except TimeoutError:
            raise Unavailable("the gateway did not answer in time") from None
        except PartlyPublished as partly:
            raise _failure_of(partly.outcomes) from partly
        except HubbubError as error:
            raise _failure_of([error]) from error
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
            envelope = Envelope.model_validate_json(payload)
            channels = [*map(personal_channel, envelope.recipients), *envelope.channels]
            data = envelope.to_publication_data()
            stored = await self._hubbub.broadcast(
                dict.fromkeys(channels), data, idempotency_key=key
            )
            return max(stored, default=Position(0, ""))
        raise MessageRejected(_NO_CODE, f"a gateway takes nothing on the subject {subject}")


def _failure_of(outcomes: Sequence[Position | HubbubError]) -> Exception:
    """What can be tried again comes first: who has it already gets it once."""
    errors = [each for each in outcomes if isinstance(each, HubbubError)]
    for error in errors:
        if not isinstance(error, _NEVER):  # a wrong key, too: somebody may correct it
            return Unavailable(f"{error.code}: {error}")
    return MessageRejected(_NO_CODE, f"{errors[0].code}: {errors[0]}")


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
