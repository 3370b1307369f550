"""How a tab gets from admitted to live: welcome, what it missed, and then all that happens.

Admitted, it is registered, and its subscriptions are catching up. `welcome` waits a
moment for the tab's own presence entry, so that the count it gives is the count that
others see. It is made in one synchronous step, in which the tab also begins to hear who
comes and goes; and no sooner than it is known whether what was missed can be had. There is
a task only if something has to be read for that.
"""

from collections.abc import Callable

import structlog

from gateway.channels.registry import Subscription
from gateway.errors import EndReason
from gateway.protocols.chat.codec import encode_people, encode_welcome
from gateway.session.handshake import ChatHandshake
from gateway.session.parts import ChatParts
from gateway.session.rate import units_of_replay
from gateway.session.replay import ConnectionLost, Replay
from gateway.session.surviving import isolate_failure
from gateway.settings import Namespace
from gateway.streams.catch_up import Reason, Unrecoverable
from gateway.transport.connection import Connection
from shared.contracts.errors import Unavailable
from shared.tokens.access_tokens import Claims
from shared.web.user_rates import TooFast

log = structlog.get_logger(__name__)

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
        on_live: Callable[[], None],
    ) -> None:
        super().__init__(connection, parts, room, personal, options)
        self._handshake = handshake
        self._claims = claims
        self._on_welcomed = on_welcomed
        self._on_live = on_live
        self._welcomed = False

    def begin(self) -> None:
        """Welcome the tab when it is present, replay, and turn it live; or close it."""
        if self.options.presence:
            self.parts.presence.when_present(
                self.room.channel,
                self._claims.user_id,
                self.parts.settings.presence_wait_seconds,
                self._go_on,
            )
        else:
            self._arrive()

    def _go_on(self, _is_present: bool) -> None:
        isolate_failure(self.connection, self._arrive)

    def _arrive(self) -> None:
        if not self.connection.is_open:
            return
        place, epoch = self._place_asked_for()
        live_from = None if place is None else self.parts.catch_up.at_once(place, epoch)
        if place is None or live_from is None:
            self.connection.start(self._run_to_live())
        else:
            self._welcome(place)
            self.go_live(live_from)
            self._on_live()

    def _place_asked_for(self) -> tuple[int | None, str | None]:
        """Where the tab wants to go on; None if there is more to it than that."""
        since = self._handshake.since
        if since is None:
            return None if self._wanted else self.parts.feed.position, None
        return since.offset if self.options.history else None, since.epoch

    @property
    def _wanted(self) -> int:
        """How many of the room's last publications a newcomer is to get."""
        return self._handshake.history if self.options.history else 0

    async def _run_to_live(self) -> None:
        try:
            reset = await self._come_back()
            if not self.is_live:
                await self._begin_anew(reset)
        except ConnectionLost:
            return
        except Unavailable as unavailable:  # what was sent so far has no hole
            log.info("arrival_failed", connection_id=self.connection.id, reason=str(unavailable))
            self.connection.close(EndReason.NOT_READY)
        except TooFast:
            log.info("replay_refused", connection_id=self.connection.id)
            self.connection.close(EndReason.RATE_LIMIT)
        else:
            self._on_live()

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
            await self.run(
                offset,
                since.epoch,
                before_first=lambda: self._welcome(offset),
                admit=self._pay_for,
            )
        except Unrecoverable as hole:
            return hole.reason
        return None

    async def _begin_anew(self, reset: str | None) -> None:
        """Start where the stream stands, as a newcomer or after what can't be had."""
        feed, catch_up = self.parts.feed, self.parts.catch_up
        wanted = self._wanted
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

    def _pay_for(self, count: int) -> None:
        self.parts.user_rates.charge(self._claims.user_id, units_of_replay(count))

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
