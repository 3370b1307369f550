"""How a tab gets from admitted to live: welcome, what it missed, and then all that happens.

Admitted, it is registered, and its subscriptions are catching up. `welcome` waits a
moment for the tab's own presence entry, so that the count it gives is the count that
others see. It is made in one synchronous step, in which the tab also begins to hear who
comes and goes; and no sooner than it is known whether what was missed can be had.
"""

from collections.abc import Callable
from contextlib import suppress

from gateway.channels.manager import CATCHING_UP, Subscription
from gateway.codecs.chat import encode, encode_publication
from gateway.codecs.chat_frames import Person, Reset, Welcome
from gateway.engine.connection import Connection
from gateway.session.handshake import ChatHandshake
from gateway.session.parts import ChatParts
from gateway.settings import Namespace
from gateway.streams.catch_up import Reason, Unrecoverable
from shared.ids import ChannelName
from shared.publications import BadPublication, Publication
from shared.tokens import Claims

MALFORMED = "malformed"


class _Gone(Exception):
    """The connection ended meanwhile."""


class Arrival:
    """One tab's way to live, and what it has been sent on it."""

    def __init__(
        self,
        connection: Connection,
        parts: ChatParts,
        handshake: ChatHandshake,
        claims: Claims,
        room: Subscription,
        personal: Subscription,
        *,
        options: Namespace,
        on_welcomed: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._parts = parts
        self._handshake = handshake
        self._claims = claims
        self._room = room
        self._personal = personal
        self._options = options
        self._on_welcomed = on_welcomed
        self._welcomed = False
        self._sent_up_to = 0

    @property
    def is_live(self) -> bool:
        return self._room.live_from != CATCHING_UP

    @property
    def place(self) -> int:
        """Nothing at or below this offset is missing from what the tab was sent."""
        if self.is_live:
            return max(self._parts.feed.position, self._room.live_from - 1)
        return self._sent_up_to

    async def run(self) -> None:
        """Welcome the tab, replay, and turn it live; or return early if it has gone.

        Raises:
            Unavailable: the stream doesn't answer; what was sent so far has no hole.
        """
        if self._options.presence:
            await self._parts.presence.until_present(
                self._room.channel,
                self._claims.user_id,
                self._parts.settings.presence_wait_seconds,
            )
        with suppress(_Gone):
            self._look_for_end()
            reset = await self._come_back()
            if not self.is_live:
                await self._begin(reset)

    def start_over(self, reason: str) -> None:
        """Go on with what comes now; who is still catching up finds out by itself."""
        if self.is_live:
            self._room.live_from = self._personal.live_from = 0
            self._tell_hole(reason)

    async def _come_back(self) -> str | None:
        """Replay what came after the tab's place; say why not, if that can't be had."""
        since = self._handshake.since
        if since is None:
            return None
        if since.offset is None:
            return MALFORMED
        if not self._options.history:
            return Reason.TOO_OLD
        try:
            await self._catch_up(since.offset, since.epoch)
        except Unrecoverable as hole:
            return hole.reason
        return None

    async def _begin(self, reset: str | None) -> None:
        """Start where the stream stands, as a newcomer or after what can't be had."""
        feed, catch_up = self._parts.feed, self._parts.catch_up
        wanted = self._handshake.history if self._options.history else 0
        while not self.is_live:
            place = self._sent_up_to = feed.position
            self._welcome(place)
            if reset is not None:
                self._tell_hole(reset)
            try:
                if wanted:
                    count, wanted = wanted, 0
                    place = await catch_up.newest(
                        self._room.channel, count, send=self._push, drained=self._drained
                    )
                await self._catch_up(place, None)
            except Unrecoverable as hole:
                reset = hole.reason  # at the second time there is nothing left to wait for

    async def _catch_up(self, offset: int, epoch: str | None) -> None:
        def send(at: int, channel: ChannelName, payload: bytes) -> None:
            self._welcome(offset)
            self._push(at, channel, payload)
            self._sent_up_to = at
            self._parts.metrics.replayed.inc()

        def go_live(live_from: int) -> None:
            self._welcome(offset)
            self._room.live_from = self._personal.live_from = live_from

        channels = (self._room.channel, self._personal.channel)
        await self._parts.catch_up.run(
            channels, offset, epoch, send=send, drained=self._drained, go_live=go_live
        )

    def _welcome(self, offset: int) -> None:
        """Say who is here, and from now on also who comes and goes."""
        if self._welcomed:
            return
        self._welcomed = True
        self._sent_up_to = offset
        channel, user_id, name = self._room.channel, self._claims.user_id, self._claims.name
        presence, most = self._parts.presence, self._parts.settings.crowd_size
        count, users = presence.count(channel), presence.users(channel, most)
        if not presence.entries(channel, user_id):
            count += 1
            users = [*users, (user_id, name)][:most]
        self._room.watches = self._options.join_leave
        self._connection.send(
            encode(
                Welcome(
                    user_id=user_id,
                    name=name,
                    room=self._handshake.room,
                    count=count,
                    users=[Person(user_id=each, name=called) for each, called in users],
                    offset=offset,
                    epoch=self._parts.feed.epoch,
                )
            )
        )
        self._on_welcomed()

    def _push(self, offset: int, channel: ChannelName, payload: bytes) -> None:
        try:
            publication = Publication.decode(payload)
        except BadPublication:
            return  # as for those who were live
        personal = channel == self._personal.channel
        self._connection.send(encode_publication(channel, offset, publication, personal=personal))

    def _tell_hole(self, reason: str) -> None:
        self._parts.metrics.resets.inc()
        self._connection.send(encode(Reset(reason=reason)))

    async def _drained(self) -> None:
        await self._connection.until_drained()
        self._look_for_end()

    def _look_for_end(self) -> None:
        if not self._connection.is_open:
            raise _Gone
