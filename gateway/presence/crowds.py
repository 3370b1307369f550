"""What is pushed of who comes and goes: everything, or in a crowd only the count. Never awaits.

Announcing each of N arrivals to all the others costs N². So past a size a channel is a
crowd: its changes only mark it, and one tick for all channels pushes the counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.presence.table import PresenceChange
from shared.contracts.ids import ChannelName


@dataclass(frozen=True, slots=True)
class CountPush:
    """The crowd has so many users now; stands for all joined and left since the last."""

    channel: ChannelName
    count: int


@dataclass(frozen=True, slots=True)
class NamesPush:
    """The channel is no crowd any more, so its users have to be told anew, by name."""

    channel: ChannelName
    count: int


class Crowds:
    """Which channels are crowds, and what their listeners have not been told yet."""

    def __init__(self, count: Callable[[ChannelName], int], *, size: int, resume: int) -> None:
        """
        Args:
            count: How many users a channel has.
            size: With more users a channel becomes a crowd.
            resume: With fewer it is none any more. Below ``size``, so that it doesn't flap.
        """
        if not 0 < resume <= size:
            raise ValueError("a crowd ends below its size, and above nobody")
        self._count = count
        self._size = size
        self._resume = resume
        self._crowds: set[ChannelName] = set()
        self._changed: dict[ChannelName, None] = {}

    def is_crowd(self, channel: ChannelName) -> bool:
        return channel in self._crowds

    def note(self, change: PresenceChange) -> bool:
        """Whether to push this change by itself; if not, `tick` will tell of it."""
        if change.channel not in self._crowds:
            if change.count <= self._size:
                return True
            self._crowds.add(change.channel)
        self._changed[change.channel] = None
        return False

    def tick(self) -> list[CountPush | NamesPush]:
        """What to push now. To be called once per interval: that is how rarely counts come."""
        pushes: list[CountPush | NamesPush] = []
        for channel in self._changed:
            count = self._count(channel)
            if count < self._resume:
                self._crowds.discard(channel)
                pushes.append(NamesPush(channel, count))
            else:
                pushes.append(CountPush(channel, count))
        self._changed.clear()
        return pushes
