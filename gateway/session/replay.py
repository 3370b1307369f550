"""What arriving and catching up have in common: the tab is sent what it misses, in order."""

from collections.abc import Callable

from gateway.channels.registry import CATCHING_UP, Subscription
from gateway.protocols.chat.codec import encode, encode_publication
from gateway.protocols.chat.frames import Reset
from gateway.session.parts import ChatParts
from gateway.settings import Namespace
from gateway.transport.connection import Connection
from shared.contracts.ids import ChannelName
from shared.contracts.publications import BadPublication, Publication


class ConnectionLost(Exception):
    """The connection ended meanwhile."""


class Replay:
    """One tab whose two subscriptions, its room's and its personal one, are not live yet."""

    def __init__(
        self,
        connection: Connection,
        parts: ChatParts,
        room: Subscription,
        personal: Subscription,
        options: Namespace,
        *,
        sent_up_to: int = 0,
    ) -> None:
        self.connection = connection
        self.parts = parts
        self.room = room
        self.personal = personal
        self.options = options
        self.sent_up_to = sent_up_to
        """Nothing at or below this offset is missing from what the tab was sent."""

    @property
    def is_live(self) -> bool:
        return self.room.live_from != CATCHING_UP

    async def run(
        self,
        offset: int,
        epoch: str | None,
        *,
        before_first: Callable[[], None] = lambda: None,
        admit: Callable[[int], None] = lambda _count: None,
        on_live: Callable[[], None] = lambda: None,
        unlimited: bool = False,
    ) -> None:
        """Send what came after the offset, and turn both subscriptions live.

        Args:
            before_first: Called in the step in which something is sent first, or it turns live.
            admit: As `CatchUp.run` says.
            on_live: Called in the step in which it turns live.
            unlimited: However much it is.

        Raises:
            Unrecoverable, Unavailable: as `CatchUp.run` says.
            ConnectionLost: the connection ended.
        """

        def send(at: int, channel: ChannelName, payload: bytes) -> None:
            before_first()
            self.push(at, channel, payload)
            self.sent_up_to = at
            self.parts.metrics.replayed.inc()

        def go_live(live_from: int) -> None:
            before_first()
            self.go_live(live_from)
            on_live()

        await self.parts.catch_up.run(
            (self.room.channel, self.personal.channel),
            offset,
            epoch,
            send=send,
            drained=self.drained,
            go_live=go_live,
            admit=admit,
            unlimited=unlimited,
        )

    def go_live(self, live_from: int) -> None:
        self.room.live_from = self.personal.live_from = live_from

    def push(self, offset: int, channel: ChannelName, payload: bytes) -> None:
        try:
            publication = Publication.decode(payload)
        except BadPublication:
            return  # as for those who were live
        personal = channel == self.personal.channel
        self.connection.send(encode_publication(channel, offset, publication, personal=personal))

    def tell_hole(self, reason: str) -> None:
        self.parts.metrics.resets.inc()
        self.connection.send(encode(Reset(reason=reason)))

    async def drained(self) -> None:
        await self.connection.until_drained()
        self.look_for_end()

    def look_for_end(self) -> None:
        if not self.connection.is_open:
            raise ConnectionLost
