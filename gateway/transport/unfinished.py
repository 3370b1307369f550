"""What has come of messages that aren't whole yet: bounded for all together, and in time."""

import time
from collections import OrderedDict
from typing import Protocol

from gateway.transport.limits import Limits


class Holder(Protocol):
    """A connection, as far as what it has sent of a message is concerned."""

    @property
    def is_held_up(self) -> bool:
        """Whether it is we who let it wait."""

    def give_up(self) -> None:
        """End it, and forget what came."""

    def abandon(self, error: Exception, event: str) -> None:
        """Giving it up raised: that costs this connection and no other."""


class Unfinished:
    """All who have a message under way, by when that began to come.

    A bound that turns away whoever grows next would be held by those who never end a message,
    against everybody whose message comes in two pieces. So it is the oldest who goes: an honest
    message is whole in no time.
    """

    def __init__(self, limits: Limits) -> None:
        self.bytes = 0
        """Of all together, with what is whole and not wanted yet."""
        self._limits = limits
        self._since: OrderedDict[Holder, float] = OrderedDict()

    def count(self, holder: Holder, grown: int, *, is_another: bool) -> None:
        """Count what it holds more than before.

        Args:
            is_another: The message that was under way has become whole, and the next has begun.
        """
        self.bytes += grown
        since = self._since
        if is_another:
            since.pop(holder, None)
        if holder not in since:
            since[holder] = time.monotonic()
        while self.bytes > self._limits.total_unfinished_bytes and since:
            _end(since.popitem(last=False)[0])

    def forget(self, holder: Holder, held: int) -> None:
        """It holds nothing any more."""
        self.bytes -= held
        self._since.pop(holder, None)

    def end_late(self, now: float) -> None:
        """Give up who takes longer than `message_seconds`; to be called once per sweep."""
        since = self._since
        while since:
            holder = next(iter(since))
            if now < since[holder] + self._limits.message_seconds:
                return
            del since[holder]
            if holder.is_held_up:
                since[holder] = now
            else:
                _end(holder)


def _end(holder: Holder) -> None:
    """On behalf of the sweep or of a stranger, neither of whom is to pay if it fails."""
    try:
        holder.give_up()
    except Exception as error:
        holder.abandon(error, "giving_up_failed")
