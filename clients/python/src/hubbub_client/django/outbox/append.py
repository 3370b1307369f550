"""Adding messages to the transaction of the change that they tell of."""

from collections.abc import Iterable

from django.db import DEFAULT_DB_ALIAS, transaction

from hubbub_client.arguments import User
from hubbub_client.contracts.subjects import parse_application
from hubbub_client.events import Event
from hubbub_client.outbox.append import APPLICATION, Message


def append(
    event: Event,
    *,
    recipients: Iterable[User] = (),
    channels: Iterable[str] = (),
    idempotency_key: str | None = None,
    service: str = APPLICATION,
    aggregate: str | None = None,
    traceparent: str | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Tell of an event when the transaction commits; see `hubbub_client.outbox.append`.

    Args:
        using: The database whose transaction is meant.

    Raises:
        ValueError: a name is malformed, or a field is called as something that every event has.
        TooLarge: as an event it is.
        TransactionManagementError: there is no transaction.
    """
    message = Message.of_event(
        event,
        recipients=recipients,
        channels=channels,
        idempotency_key=idempotency_key,
        service=parse_application(service),
        aggregate=aggregate,
        traceparent=traceparent,
    )
    _add(message, using)


def append_publication(
    channel: str,
    data: object,
    *,
    idempotency_key: str | None = None,
    tags: dict[str, str] | None = None,
    delta: bool = False,
    aggregate: str | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Publish into a channel when the transaction commits; likewise.

    Args:
        using: The database whose transaction is meant.

    Raises:
        ValueError: it is no channel, or not every reader could read the data.
        TooLarge: as a publication it is.
        TransactionManagementError: there is no transaction.
    """
    message = Message.of_publication(
        channel,
        data,
        idempotency_key=idempotency_key,
        tags=tags,
        delta=delta,
        aggregate=aggregate,
    )
    _add(message, using)


def _add(message: Message, using: str) -> None:
    if not transaction.get_connection(using).in_atomic_block:
        raise transaction.TransactionManagementError(
            "an event is told with the change that it tells of: within transaction.atomic()"
        )
    from hubbub_client.django.outbox.models import OutboxRow  # once all applications are loaded

    OutboxRow.objects.using(using).create(
        message_id=message.id,
        subject=message.subject,
        aggregate=message.aggregate,
        payload=message.payload,
    )
