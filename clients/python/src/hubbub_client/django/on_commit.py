"""Publish when what is told of is so: once the transaction is committed.

Then the request is done, and whether it can be told is not for its user to hear of: what fails is
logged. Outside of a transaction it is told at once, and else nothing is different.

After one that no gateway answered the others of its transaction are not tried: the request has
waited long enough.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from hubbub_client.arguments import User, user_id
from hubbub_client.django.client import the_hubbub
from hubbub_client.errors import HubbubError, Unavailable
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
        ImproperlyConfigured: there are no good settings.
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
        ImproperlyConfigured: there are no good settings.
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
    the_hubbub()  # if there can be none, it is better known before the commit

    def send() -> None:
        the_hubbub().publish(channel, as_it_is_now, idempotency_key=key, tags=tags, delta=delta)

    commit = _commit_of(transaction.get_connection(using))
    transaction.on_commit(_Telling(channel, send, commit), using=using)


@dataclass
class _Commit:
    """What the publications of one transaction share."""

    has_begun: bool = False
    outage: Unavailable | None = None


@dataclass(frozen=True)
class _Telling:
    """One publication, which raises nothing: the others that wait for the commit come after it."""

    channel: str
    send: Callable[[], None]
    commit: _Commit

    def __call__(self) -> None:
        self.commit.has_begun = True
        try:
            if self.commit.outage is not None:
                raise self.commit.outage
            self.send()
        except HubbubError as error:
            if isinstance(error, Unavailable):
                self.commit.outage = error
            code = error.code
            log.error(
                "not published in %s: %s: %s", self.channel, code, error, extra={"code": code}
            )
        except Exception:
            log.exception("not published in %s", self.channel, extra={"code": HubbubError.code})


def _commit_of(connection: BaseDatabaseWrapper) -> _Commit:
    """That of the publications that wait with it, if any do."""
    for _, waiting, *_ in connection.run_on_commit:
        if isinstance(waiting, _Telling) and not waiting.commit.has_begun:
            return waiting.commit
    return _Commit()
