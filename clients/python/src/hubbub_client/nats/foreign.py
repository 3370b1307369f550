"""Messages that were published to other subjects than where they came.

The bus checks where a user publishes, but not where its own answers go. Whoever consumes events may
have one delivered to any subject, with any payload, as if they had published there. It keeps the
subject to which it was published, so whoever reads has to look at that.
"""

import logging
import time

from hubbub_client.log_events import LogEvent
from hubbub_client.nats.parser import Handler

log = logging.getLogger(__name__)

TELL_SECONDS = 60.0
"""Between two words about them in the log; who sends them could fill it."""
_MAX_SUBJECT_CHARS = 200


class ForeignMessages:
    """Those that came to one place; nobody heeds them."""

    def __init__(self, place: str) -> None:
        self.count = 0
        self._place = place
        self._tell_at = 0.0

    def note(self, subject: str) -> None:
        """One more, which was published to the subject."""
        self.count += 1
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_SECONDS
            log.warning(
                LogEvent(
                    "foreign_message_ignored",
                    place=self._place,
                    subject=subject[:_MAX_SUBJECT_CHARS],
                    count=self.count,
                )
            )


def without_foreign(subject: str, handler: Handler) -> Handler:
    """The handler of a subscription, for messages that were published to what it subscribes to.

    Args:
        subject: Of the subscription; a wildcard stands for all that follows.
    """
    begin, wildcard, _ = subject.replace(">", "*").partition("*")
    prefix, foreign = begin.encode(), ForeignMessages(subject)

    def heed(published: bytes, payload: bytes, headers: bytes | None, reply: bytes) -> None:
        if published.startswith(prefix) and (wildcard or len(published) == len(prefix)):
            handler(published, payload, headers, reply)
        else:
            foreign.note(published.decode(errors="replace"))

    return heed
