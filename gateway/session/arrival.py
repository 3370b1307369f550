"""How a tab gets from admitted to live: welcome, what it missed, and then all that happens.

Admitted, it is registered, and its subscriptions are catching up. `welcome` waits a
moment for the tab's own presence entry, so that the count it gives is the count that
others see. It is made in one synchronous step, in which the tab also begins to hear who
comes and goes; and no sooner than it is known whether what was missed can be had.
"""

from collections.abc import Callable

from gateway.channels.manager import Subscription
from gateway.codecs.chat import encode_people, encode_welcome
from gateway.engine.connection import Connection
from gateway.session.handshake import ChatHandshake
from gateway.session.parts import ChatParts
from gateway.session.replay import Replay
from gateway.settings import Namespace
from gateway.streams.catch_up import Reason, Unrecoverable
from shared.tokens import Claims

MALFORMED = "malformed"


class Arrival(Replay):
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
        super().__init__(connection, parts, room, personal, options)
        self._handshake = handshake
        self._claims = claims
        self._on_welcomed = on_welcomed
        self._welcomed = False

    async def run_to_live(self) -> None:
        """Welcome the tab, replay, and turn it live.

        Raises:
            Unavailable: the stream doesn't answer; what was sent so far has no hole.
            Gone: the connection ended.
        """
        if self.options.presence:
            await self.parts.presence.until_present(
                self.room.channel,
                self._claims.user_id,
                self.parts.settings.presence_wait_seconds,
            )
        self.look_for_end()
        reset = await self._come_back()
        if not self.is_live:
            await self._begin(reset)

    async def _come_back(self) -> str | None:
        """Replay what came after the tab's place; say why not, if that can't be had."""
        since = self._handshake.since
        if since is None:
            return None
        if since.offset is None:
            return MALFORMED
        if not self.options.history:
            return Reason.TOO_OLD
        offset = since.offset
        try:
            await self.run(offset, since.epoch, before_first=lambda: self._welcome(offset))
        except Unrecoverable as hole:
            return hole.reason
        return None

    async def _begin(self, reset: str | None) -> None:
        """Start where the stream stands, as a newcomer or after what can't be had."""
        feed, catch_up = self.parts.feed, self.parts.catch_up
        wanted = self._handshake.history if self.options.history else 0
        while not self.is_live:
            place = self.sent_up_to = feed.position
            self._welcome(place)
            if reset is not None:
                self.tell_hole(reset)
            try:
                if wanted:
                    count, wanted = wanted, 0
                    place = await catch_up.newest(
                        self.room.channel, count, send=self.push, drained=self.drained
                    )
                await self.run(place, None)
            except Unrecoverable as hole:
                reset = hole.reason  # at the second time there is nothing left to wait for

    def _welcome(self, offset: int) -> None:
        """Say who is here, and from now on also who comes and goes."""
        if self._welcomed:
            return
        self._welcomed = True
        self.sent_up_to = offset
        channel, user_id, name = self.room.channel, self._claims.user_id, self._claims.name
        presence, most = self.parts.presence, self.parts.settings.crowd_size
        count = presence.count(channel)
        if presence.has(channel, user_id):
            users = self.parts.roster.encoded(channel)
        else:  # its own entry is late
            count += 1
            users = encode_people([*presence.users(channel, most), (user_id, name)][:most])
        self.room.watches = self.options.join_leave
        self.connection.send(
            encode_welcome(
                user_id=user_id,
                name=name,
                room=self._handshake.room,
                count=count,
                users=users,
                offset=offset,
                epoch=self.parts.feed.epoch,
            )
        )
        self._on_welcomed()
