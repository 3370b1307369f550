"""Publish when what is told of is so: once the transaction is committed.

Then the request is done, and whether it can be told is not for its user to hear of: what fails is
logged. Outside of a transaction it is told at once, and else nothing is different.
"""

import json
import logging

from django.db import transaction

from hubbub_client.arguments import User, user_id
from hubbub_client.django.client import the_hubbub
from hubbub_client.errors import HubbubError
from hubbub_client.events import to_data, to_notification
from hubbub_client.exchange import to_json
from hubbub_client.publishing import a_key

log = logging.getLogger("hubbub_client.django")


def publish(
    channel: str,
    data: object,
    *,
    idempotency_key: str | None = None,
    tags: dict[str, str] | None = None,
    delta: bool = False,
    using: str | None = None,
) -> None:
    """Publish into a channel on commit; see `Hubbub.publish`.

    Args:
        using: The database whose transaction is meant.

    Raises:
        ValueError, TypeError: it can't be published; nothing waits for the commit to say so.
    """
    key = idempotency_key or a_key()
    _publish_on_commit(channel, to_data(data, key), key, tags=tags, delta=delta, using=using)


def notify(
    user: User, event: object, *, idempotency_key: str | None = None, using: str | None = None
) -> None:
    """Tell a user of an event on commit; see `Hubbub.notify`.

    Args:
        using: The database whose transaction is meant.

    Raises:
        ValueError, TypeError: it is no event; nothing waits for the commit to say so.
    """
    key = idempotency_key or a_key()
    _publish_on_commit(f"#{user_id(user)}", to_notification(event, key), key, using=using)


def _publish_on_commit(
    channel: str,
    data: object,
    key: str,
    *,
    tags: dict[str, str] | None = None,
    delta: bool = False,
    using: str | None,
) -> None:
    as_it_is_now = json.loads(to_json(data))

    def publish_now() -> None:
        try:
            the_hubbub().publish(channel, as_it_is_now, idempotency_key=key, tags=tags, delta=delta)
        except HubbubError as error:
            log.error(
                "not published in %s: %s: %s",
                channel,
                error.code,
                error,
                extra={"code": error.code},
            )

    transaction.on_commit(publish_now, using=using)
