"""What users say, stored in the stream: once under each of their ids."""

import time
from collections.abc import Callable
from uuid import uuid4

from gateway.errors import IdReused
from gateway.streams.history import History
from gateway.streams.ring import Ring
from shared.bus.publisher import Publisher
from shared.bus.subjects import publication_subject, user_message_id
from shared.ids import ChannelName
from shared.publications import BadPublication, Publication, Sender


class UserPublisher:
    """Publishes on behalf of users; of a duplicate it looks whether it is the same."""

    def __init__(
        self,
        publisher: Publisher,
        ring: Ring,
        history: History,
        *,
        publish_seconds: float,
        on_published: Callable[[float], None],
    ) -> None:
        """
        Args:
            publish_seconds: For one publication, with all its tries.
            on_published: Gets the seconds that one took to be stored.
        """
        self._publisher = publisher
        self._ring = ring
        self._history = history
        self._publish_seconds = publish_seconds
        self._on_published = on_published

    async def __call__(
        self, channel: ChannelName, sender: Sender, body: str, *, client_id: str | None
    ) -> int:
        """Store the words and return their offset.

        Raises:
            IdReused: other words were stored under this id.
            Unavailable: unknown whether they are stored; try again with the same id.
        """
        payload = Publication(data={"body": body}, sender=sender).encode()
        message_id = user_message_id(sender.user_id, channel, client_id or str(uuid4()))
        began_at = time.monotonic()
        stored = await self._publisher.publish(
            publication_subject(channel),
            payload,
            message_id=message_id,
            deadline_seconds=self._publish_seconds,
        )
        self._on_published(time.monotonic() - began_at)
        if stored.duplicate and await self._body_at(stored.offset) not in (None, body):
            raise IdReused("other words were stored under this id")
        return stored.offset

    async def _body_at(self, offset: int) -> str | None:
        """What was said there; None if the stream no longer tells."""
        kept = self._ring.get(offset) or await self._history.stored(offset)
        if kept is None:
            return None
        try:
            data = Publication.decode(kept.payload).data
        except BadPublication:
            return None
        body = data.get("body") if isinstance(data, dict) else None
        return body if isinstance(body, str) else None
