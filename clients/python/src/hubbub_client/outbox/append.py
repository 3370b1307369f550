"""Adding messages to the transaction of the change that they tell of."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from hubbub_client.arguments import User
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.envelope import encode_event
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import (
    api_message_id,
    parse_application,
    publication_subject,
)
from hubbub_client.events import Event, to_data
from hubbub_client.exchange import check_size
from hubbub_client.outbox.table import MAX_NAME_LENGTH, OutboxRow
from hubbub_client.publishing import a_key

AnySession: TypeAlias = (
    Session | AsyncSession | scoped_session[Any] | async_scoped_session[AsyncSession]
)

APPENDED = "outbox_appended"
"""In ``session.info``: this transaction has added rows."""

APPLICATION = "application"
"""Who tells an event, unless it is said."""

_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


class Message(NamedTuple):
    """What a row of the outbox says; `hubbub_client.outbox.table` has the other columns."""

    id: str
    subject: str
    aggregate: str
    payload: bytes

    @classmethod
    def checked(cls, *, id: str, subject: str, aggregate: str, payload: bytes) -> "Message":
        """
        Raises:
            ValueError: no bus could take it under this subject or id.
        """
        if not _SUBJECT.fullmatch(subject) or not _PRINTABLE.fullmatch(id):
            raise ValueError(f"not a subject and a message id: {subject!r}, {id!r}")
        if max(map(len, (subject, aggregate, id))) > MAX_NAME_LENGTH:
            raise ValueError(f"a name of the message is over {MAX_NAME_LENGTH} characters")
        return cls(id, subject, aggregate, payload)

    @classmethod
    def of_event(
        cls,
        event: Event,
        *,
        recipients: Iterable[User] = (),
        channels: Iterable[str] = (),
        idempotency_key: str | None = None,
        service: str = APPLICATION,
        aggregate: str | None = None,
        traceparent: str | None = None,
    ) -> "Message":
        """As `append` says."""
        subject, payload, message_id = encode_event(
            event,
            service=service,
            recipients=recipients,
            channels=channels,
            idempotency_key=idempotency_key,
            traceparent=traceparent,
        )
        return cls.checked(
            id=message_id, subject=subject, aggregate=aggregate or subject, payload=payload
        )

    @classmethod
    def of_publication(
        cls,
        channel: str,
        data: object,
        *,
        idempotency_key: str | None = None,
        tags: dict[str, str] | None = None,
        delta: bool = False,
        aggregate: str | None = None,
    ) -> "Message":
        """As `append_publication` says."""
        into, key = parse_channel(channel), idempotency_key or a_key()
        subject = publication_subject(into)
        payload = Publication(to_data(data, key), tags=tags, delta=delta).encode()
        check_size(payload)
        return cls.checked(
            id=api_message_id(into, key),
            subject=subject,
            aggregate=aggregate or subject,
            payload=payload,
        )


def append(
    session: AnySession,
    event: Event,
    *,
    recipients: Iterable[User] = (),
    channels: Iterable[str] = (),
    idempotency_key: str | None = None,
    service: str = APPLICATION,
    aggregate: str | None = None,
    traceparent: str | None = None,
) -> None:
    """Tell of an event when the transaction commits, to users, channels and other services.

    Messages of one aggregate leave in the order of their rows. That is the order of commits if you
    lock what they are about *first* (an UPDATE of its row does): rows are numbered when written.

    Args:
        event: A pydantic model. `hubbub_client.events` says what it is called.
        recipients: They get it on all of their connections.
        channels: Their subscribers get it, too.
        idempotency_key: The outbox has one such event of the service with it, and its id is made
            of it; by default each is an event of its own. A second one fails the transaction when
            it is flushed (`IntegrityError`), as long as the first is kept: until a day after it was
            sent. Within ``session.begin_nested()`` no more than that fails.
        service: Who tells it, as consumers see it: the subject is ``events.<service>.<name>``.
        aggregate: What it is about, such as ``invoice:17``; by default all such events are one.
        traceparent: The trace context of the request that caused it.

    Raises:
        ValueError: a name is malformed, or a field is called as something that every event has.
        TooLarge: as an event it is.
    """
    add_message(
        session,
        Message.of_event(
            event,
            recipients=recipients,
            channels=channels,
            idempotency_key=idempotency_key,
            service=parse_application(service),
            aggregate=aggregate,
            traceparent=traceparent,
        ),
    )


def append_publication(
    session: AnySession,
    channel: str,
    data: object,
    *,
    idempotency_key: str | None = None,
    tags: dict[str, str] | None = None,
    delta: bool = False,
    aggregate: str | None = None,
) -> None:
    """Publish into a channel when the transaction commits.

    Args:
        data: An event, or any JSON value.
        idempotency_key: A channel has one publication with it. Of a second one see `append`.
        tags: What subscribers may filter by.
        delta: Whether subscribers may be sent a patch of the publication before it.
        aggregate: What leaves in order; by default the channel. See `append`.

    Raises:
        ValueError: it is no channel, or not every reader could read the data.
        TooLarge: as a publication it is.
    """
    add_message(
        session,
        Message.of_publication(
            channel,
            data,
            idempotency_key=idempotency_key,
            tags=tags,
            delta=delta,
            aggregate=aggregate,
        ),
    )


def append_message(
    session: AnySession, *, subject: str, aggregate: str, message_id: str, payload: bytes
) -> None:
    """Add any message for the bus to the transaction, under a subject that the relay may use.

    Raises:
        ValueError: no bus could take it under this subject or id.
    """
    message = Message.checked(id=message_id, subject=subject, aggregate=aggregate, payload=payload)
    add_message(session, message)


def add_message(session: AnySession, message: Message) -> None:
    """Add it to the transaction."""
    session.info[APPENDED] = True
    session.add(OutboxRow(**message._asdict()))
