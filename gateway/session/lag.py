"""A tab's way back to live, after its socket took too little for what happened.

It gets nothing live meanwhile, so it costs no more than what its socket holds; once that
has drained, it is sent what it missed from the stream, in bounded batches at its own pace.
The engine closes it if it has not caught up within `lag_seconds`.
"""

import asyncio

import structlog

from gateway.channels.registry import CATCHING_UP
from gateway.protocols.chat.codec import encode
from gateway.protocols.chat.frames import Person, Users
from gateway.session.replay import Replay
from gateway.streams.catch_up import Reason, Unrecoverable
from shared.contracts.errors import Unavailable
from shared.contracts.ids import ChannelName

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.5


class SlowConsumer(Replay):
    """One tab that missed something live: from the first thing missed until it is live again."""

    _started_over: Reason | None = None

    def begin(self) -> None:
        """From now on nothing comes live."""
        self.room.live_from = self.personal.live_from = CATCHING_UP
        self.room.watches = False
        self.connection.fall_behind()
        self.parts.metrics.lagging.inc()

    async def run_to_live(self) -> None:
        """Catch up, and be live again.

        Raises:
            ConnectionLost: the connection ended.
        """
        await self.drained()
        while not self.is_live:
            try:
                self._look_for_new_stream()
                await self.run(self.sent_up_to, None, on_live=self._keep_up, unlimited=True)
            except Unrecoverable as hole:
                self.tell_hole(hole.reason)
                self._started_over = None
                self.sent_up_to = self.parts.feed.position
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)  # the engine's deadline goes on
                self.look_for_end()

    def start_over(self, reason: str) -> None:
        """The stream's offsets began anew, or some are lost to everybody here."""
        self._started_over = Reason(reason)

    def _look_for_new_stream(self) -> None:
        if self._started_over is not None:  # its place may exist, and be another, in the new one
            raise Unrecoverable(self._started_over)

    def push(self, offset: int, channel: ChannelName, payload: bytes) -> None:
        """A room without history is not read back: the newest publication stands for all."""
        if channel == self.room.channel and not self.options.history:
            newer = self.parts.feed.ring.count_after((channel,), offset)
            if newer:
                return
        super().push(offset, channel, payload)

    def _keep_up(self) -> None:
        """Live again; who came and went meanwhile is told as who is here."""
        self.connection.keep_up()
        if self.options.join_leave:
            self.room.watches = True
            channel, presence = self.room.channel, self.parts.presence
            names = presence.users(channel, self.parts.settings.crowd_size)
            people = [Person(user_id=user_id, name=name) for user_id, name in names]
            self.connection.send(encode(Users(users=people, count=presence.count(channel))))
