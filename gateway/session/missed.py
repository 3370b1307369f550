"""What a client missed in its channels: all of it, for one reply, from memory or read.

One reply has to hold it, so it is bounded in bytes, too.
"""

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter

from gateway.channels.connection import Connection
from gateway.channels.registry import Subscription
from gateway.session.recovery import ConnectionLost
from gateway.streams.catch_up import CatchUp
from gateway.streams.feed import Reason, Unrecoverable
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication

_PAYLOAD = attrgetter("payload")

Position = tuple[int, str | None]
"""An offset; and its epoch, if the client knows."""


def recent(
    catch_up: CatchUp, wanted: Mapping[Subscription, Position | None]
) -> dict[Subscription, list[StoredPublication]] | None:
    """As `read`, if all of it is in memory; None if something has to be read."""
    size = 0
    found: dict[Subscription, list[StoredPublication]] = {}
    for subscription, position in wanted.items():
        channel = subscription.channel
        if position is None:
            publications = catch_up.latest(channel)
        else:
            publications = catch_up.recent(channel, *position)
        size += _size_of(publications or ())
        if publications is None or size > catch_up.reply_bytes:
            return None
        found[subscription] = publications
    return found


async def read(
    catch_up: CatchUp, connection: Connection, wanted: Mapping[Subscription, Position | None]
) -> dict[Subscription, list[StoredPublication] | Reason]:
    """What came in each channel after a position, complete in the step in which it returns.

    What does not fit into the reply is not had, of the last ones first.

    Args:
        wanted: The position, of each subscription; None for its newest publication alone.

    Returns:
        The publications; or why they can't be had.

    Raises:
        Unavailable: the stream does not answer.
        ConnectionLost: the connection ended.
    """
    parts = {
        subscription: _Part(subscription.channel, position)
        for subscription, position in wanted.items()
    }
    await _Reading(catch_up, connection, parts.values()).run()
    return {subscription: part.hole or part.publications for subscription, part in parts.items()}


class _Part:
    """What one channel has after a position, as far as it was read."""

    def __init__(self, channel: ChannelName, position: Position | None) -> None:
        self.channel = channel
        self.position = position
        self.publications: list[StoredPublication] = []
        self.size = 0
        self.through = -1
        """The offset up to which it is complete."""
        self.hole: Reason | None = None

    def note(self, live_from: int) -> None:
        self.through = live_from - 1

    def drop(self) -> None:
        self.publications, self.size = [], 0


class _Reading:
    """The parts of one reply; the feed goes on while they are read, so each is read on."""

    def __init__(self, catch_up: CatchUp, connection: Connection, parts: Collection[_Part]) -> None:
        self._catch_up = catch_up
        self._connection = connection
        self._parts = parts

    async def run(self) -> None:
        while behind := [each for each in self._parts if self._is_behind(each)]:
            for part in behind:
                try:
                    await self._read_on(part)
                except Unrecoverable as unrecoverable:
                    part.drop()
                    part.hole = unrecoverable.reason

    def _is_behind(self, part: _Part) -> bool:
        return part.hole is None and part.through < self._catch_up.position

    async def _read_on(self, part: _Part) -> None:
        catch_up = self._catch_up
        if part.position is None:
            newest = await catch_up.read_latest(part.channel)
            part.drop()
            self._keep(part, newest)
            part.through = catch_up.position
            await self._still_there()
            return
        offset, epoch = part.position
        await catch_up.run(
            (part.channel,),
            max(offset, part.through),
            epoch,
            send=lambda batch: self._keep(part, batch),
            drained=self._still_there,
            go_live=part.note,
        )

    def _keep(self, part: _Part, batch: list[StoredPublication]) -> None:
        part.publications += batch
        part.size += _size_of(batch)
        if sum(each.size for each in self._parts) > self._catch_up.reply_bytes:
            raise Unrecoverable(Reason.TOO_MANY)

    async def _still_there(self) -> None:
        if not self._connection.is_open:
            raise ConnectionLost


def _size_of(publications: Iterable[StoredPublication]) -> int:
    return sum(map(len, map(_PAYLOAD, publications)))
