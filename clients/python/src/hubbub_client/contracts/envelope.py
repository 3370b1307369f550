"""Events: facts that services tell each other, in one versioned envelope."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hubbub_client.arguments import User, listed, user_ids
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import ChannelName, JsonUserId, user_id_from_json
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import emitted_id, event_subject, parse_service
from hubbub_client.events import Event, event_fields, event_name
from hubbub_client.exchange import check_size


class Envelope(BaseModel):
    """An event as it crosses the bus, on ``events.<service>.<type>``.

    ``data`` is absolute ("12 likes", never "one more"), so hearing it twice is harmless.
    Each recipient's personal channel and each channel gets one publication of it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")  # readers outlive writers' new fields

    v: Literal[1] = 1
    id: str = Field(default_factory=lambda: str(uuid4()), min_length=1, max_length=64)
    type: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    version: int = Field(default=1, ge=1)
    """Of the event: another one means that ``data`` has other fields, or other meanings."""
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    traceparent: str | None = None
    """W3C trace context of the request that caused it."""
    recipients: tuple[JsonUserId, ...] = ()
    """Users to be notified, on their personal channels."""
    channels: tuple[ChannelName, ...] = ()
    """Channels that get it too, beside the recipients' own."""
    data: dict[str, Any]

    @classmethod
    def of(
        cls,
        event: Event,
        *,
        event_id: str | None = None,
        recipients: Iterable[str | int] = (),
        channels: Iterable[str] = (),
        traceparent: str | None = None,
    ) -> Self:
        """The envelope of a typed event.

        Args:
            event_id: The same, if it is told again; a new one if there is none.

        Raises:
            ValueError: one of them is malformed, or the event has a field that it can't have.
        """
        name, version = event_name(type(event))
        return cls(
            id=event_id or str(uuid4()),
            type=name,
            version=version,
            traceparent=traceparent,
            recipients=tuple(user_id_from_json(each) for each in listed(recipients)),
            channels=tuple(parse_channel(each) for each in listed(channels)),
            data=event_fields(event),
        )

    @classmethod
    def read(cls, payload: bytes) -> Self:
        """Read an event of the bus.

        Raises:
            ValueError: it is none.
        """
        try:
            event = cls.model_validate_json(payload)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error
        if "id" not in event.model_fields_set:
            raise ValueError("id: missing")  # the default would differ at each redelivery
        return event

    @field_validator("data")
    @classmethod
    def _can_be_published(cls, data: dict[str, Any]) -> dict[str, Any]:
        Publication(data).encode()
        return data

    def to_publication_data(self) -> dict[str, Any]:
        """What subscribers see: the data, the event's name as ``event``, and its ``id``.

        And its version from 2 on, as `hubbub_client.events` has it.
        """
        version = {"version": self.version} if self.version > 1 else {}
        return {**self.data, "event": self.type, "id": self.id, **version}


class Encoded(NamedTuple):
    """An event or a publication, ready to be stored."""

    subject: str
    payload: bytes
    message_id: str


def encode_event(
    event: Event,
    *,
    service: str,
    recipients: Iterable[User] = (),
    channels: Iterable[str] = (),
    idempotency_key: str | None = None,
    traceparent: str | None = None,
) -> Encoded:
    """The event as the service tells it, under an id that is made of the key if there is one.

    Raises:
        ValueError: one of them is malformed, or the event has a field that it can't have.
        TooLarge: as an event it is.
    """
    name, key = event_name(type(event)).name, idempotency_key
    envelope = Envelope.of(
        event,
        event_id=emitted_id(service, name, key) if key else None,
        recipients=user_ids(recipients),
        channels=channels,
        traceparent=traceparent,
    )
    payload = envelope.model_dump_json().encode()
    check_size(payload)
    return Encoded(event_subject(parse_service(service), name), payload, envelope.id)


def first_problem(error: ValidationError) -> str:
    """What is wrong and where, without what was sent: that is not for logs."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"
