"""How a tab gets from admitted to live: welcome, what it missed, and then all that happens.

`welcome` waits a moment for the tab's own presence entry, so that the count it gives is the
count that others see. It is made in one synchronous step, in which the tab also begins to hear
who comes and goes; and no sooner than it is known whether what was missed can be had. There is
a task only if something has to be read for that.
"""

from collections.abc import Callable

import structlog

from gateway.channels.connection import Frame, isolate_failure
from gateway.channels.options import Namespace
from gateway.channels.registry import Subscription
from gateway.errors import EndReason
from gateway.protocols.chat.codec import encode, encode_people, encode_welcome
from gateway.protocols.chat.frames import Greeting
from gateway.protocols.chat.handshake import ChatHandshake
from gateway.protocols.chat.service import ChatService
from gateway.session.recovery import ConnectionLost, Recovery
from gateway.session.session import Session
from gateway.streams.feed import Reason, Unrecoverable
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.publications import StoredPublication
from shared.web.user_rates import TooFast

log = structlog.get_logger(__name__)


class Arrival:
    """One tab on its way to live, in its room and its personal channel."""

    def __init__(
        self,
        service: ChatService,
        session: Session,
        handshake: ChatHandshake,
        room: Subscription,
        personal: Subscription,
        options: Namespace,
        *,
        on_welcomed: Callable[[], None],
    ) -> None:
        """``options`` are the room's. At `/ws/notifications` the personal channel is the room."""
        self._service = service
        self._session = session
        self._connection = session.connection
        self._handshake = handshake
        self._room = room
        self._subscriptions = {room, personal}  # one, where there is no room
        self._options = options
        self._namespaces = service.sessions.namespaces
        self._on_welcomed = on_welcomed
        self._is_welcomed = False

    def begin(self) -> None:
        """Welcome the tab when it is present, replay, and turn it live; or close it."""
        if self._options.presence:
            self._service.presence.when_present(
                self._room.channel,
                self._session.user_id,
                self._service.settings.presence_wait_seconds,
                self._go_on,
            )
        else:
            self._arrive()

    def _go_on(self, _is_present: bool) -> None:
        isolate_failure(self._connection, self._arrive)

    def _arrive(self) -> None:
        if not self._connection.is_open:
            return
        offset, epoch = self._starting_point()
        missed = None
        if offset is not None:
            channels = {each.channel for each in self._subscriptions}
            missed = self._service.sessions.catch_up.recent_together(channels, offset, epoch)
        if offset is None or missed is None:
            self._connection.start(self._run_to_live())
        else:
            self._arrive_at_once(offset, missed)

    def _arrive_at_once(self, offset: int, missed: list[StoredPublication]) -> None:
        session = self._session
        recovery = session.begin_recovery(self._subscriptions)
        try:
            try:
                if missed:
                    session.pay_for(len(missed))
            except TooFast:
                self._refuse_replay()
            else:
                self._welcome(offset, recovery)
                recovery.finish(missed)
        finally:
            session.end_recovery(recovery)

    def _starting_point(self) -> tuple[int | None, str | None]:
        """The offset and its epoch; None if there is more to it than that."""
        since = self._handshake.since
        if since is None:
            return None if self._wanted else self._service.sessions.catch_up.position, None
        return since.offset if self._may_recover else None, since.epoch

    @property
    def _wanted(self) -> int:
        """How many of the room's last publications a newcomer is to get."""
        if not self._handshake.history:
            return 0
        refusal = self._namespaces.why_not_read_history(
            self._room.channel, self._session.user_id, is_subscribed=True
        )
        return self._handshake.history if refusal is None else 0

    @property
    def _may_see_presence(self) -> bool:
        refusal = self._namespaces.why_not_see_presence(
            self._room.channel, self._session.user_id, is_subscribed=True
        )
        return refusal is None

    @property
    def _may_recover(self) -> bool:
        return self._namespaces.may_recover(self._room.channel, self._session.user_id)

    async def _run_to_live(self) -> None:
        with self._session.recovering(*self._subscriptions) as recovery:
            try:
                hole = await self._come_back(recovery)
                if not recovery.is_live:
                    await self._begin_anew(recovery, hole)
            except ConnectionLost:
                pass
            except Unavailable as unavailable:  # what was sent so far has no hole
                reason = str(unavailable)
                log.info("arrival_failed", connection_id=self._connection.id, reason=reason)
                self._connection.close(EndReason.NOT_READY)
            except TooFast:
                self._refuse_replay()

    def _refuse_replay(self) -> None:
        log.info("replay_refused", connection_id=self._connection.id)
        self._connection.close(EndReason.RATE_LIMIT)

    async def _come_back(self, recovery: Recovery) -> Reason | None:
        """Replay what came after the tab's offset; say why not, if that can't be had."""
        since = self._handshake.since
        if since is None:
            return None
        if since.offset is None:
            return Reason.MALFORMED
        if not self._may_recover:
            return Reason.TOO_OLD
        offset = since.offset
        try:
            await recovery.run(
                offset,
                since.epoch,
                before_first=lambda: self._welcome(offset, recovery),
                admit=self._session.pay_for,
            )
        except Unrecoverable as hole:
            return hole.reason
        return None

    async def _begin_anew(self, recovery: Recovery, hole: Reason | None) -> None:
        """Start where the stream stands, as a newcomer or after what can't be had."""
        wanted = self._wanted
        while not recovery.is_live:
            offset = self._service.sessions.catch_up.position
            recovery.delivered_offset = offset
            self._welcome(offset, recovery)
            if hole is not None:
                self._session.tell_hole(self._subscriptions, hole)
            try:
                if wanted:
                    count, wanted = wanted, 0
                    offset = await recovery.send_newest(self._room.channel, count)
                await recovery.run(offset, None)
            except Unrecoverable as unrecoverable:
                hole = unrecoverable.reason  # at the second time there is nothing to wait for

    def _welcome(self, offset: int, recovery: Recovery | None = None) -> None:
        """Say who is here, and from now on also who comes and goes."""
        if self._is_welcomed:
            return
        self._is_welcomed = True
        if recovery is not None:
            recovery.delivered_offset = offset
        room = self._handshake.room
        if room is None:
            self._connection.send(self._encode_greeting(offset))
        else:
            self._connection.send(self._encode_welcome(room, offset))
        self._on_welcomed()

    def _encode_greeting(self, offset: int) -> Frame:
        claims = self._session.claims
        epoch = self._service.sessions.catch_up.epoch
        greeting = Greeting(user_id=claims.user_id, name=claims.name, offset=offset, epoch=epoch)
        return encode(greeting)

    def _encode_welcome(self, room: str, offset: int) -> Frame:
        channel, claims = self._room.channel, self._session.claims
        presence, announcements = self._service.presence, self._service.announcements
        options, may_see = self._options, self._may_see_presence
        if not may_see:
            count, users = 1, encode_people([(claims.user_id, claims.name)])
        elif presence.has(channel, claims.user_id):
            count, users = presence.count(channel), announcements.encoded_users(channel)
        else:  # its own entry is late
            count = presence.count(channel) + 1
            users = announcements.encoded_users_with(channel, claims.user_id, claims.name)
        self._room.watches = options.join_leave and (options.force_push_join_leave or may_see)
        return encode_welcome(
            user_id=claims.user_id,
            name=claims.name,
            room=room,
            count=count,
            users=users,
            offset=offset,
            epoch=self._service.sessions.catch_up.epoch,
        )
