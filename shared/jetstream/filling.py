"""Filling holes: reading from the stream what did not come live, up to a target."""

import asyncio
from collections.abc import Callable

from hubbub_client.jetstream.api import Batch, StoredMessage, StreamState
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.errors import BusUnavailable, StreamMissing
from hubbub_client.nats.foreign import ForeignMessages
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.sequencer import Gap, Sequencer


class RetentionPassed(Exception):
    """The stream has dropped the message that should come next."""

    def __init__(self, state: StreamState) -> None:
        super().__init__(f"the stream begins at {state.first}")
        self.state = state


class Filler:
    """Reads one stream into one sequencer."""

    def __init__(
        self,
        reader: StreamReader,
        stream: str,
        sequencer: Sequencer[StoredMessage],
        *,
        prefix: str,
        hand_over: Callable[[StoredMessage | Gap], None],
        on_filled: Callable[[int], None],
        limits: FollowerLimits,
    ) -> None:
        """
        Args:
            stream: Its name, for error messages.
            prefix: Of the subjects that the stream stores, to be cut off.
            hand_over: Gets what is due, in order; without a subject what is stored under another.
        """
        self._reader = reader
        self._stream = stream
        self._sequencer = sequencer
        self._prefix = prefix
        self._foreign = ForeignMessages(stream)
        self._hand_over = hand_over
        self._on_filled = on_filled
        self._limits = limits

    async def state(self) -> StreamState:
        """The stream's state, by its leader.

        Raises:
            StreamMissing: there is no stream, or one without an epoch.
            BusUnavailable: no answer.
        """
        state = await self._reader.state()
        if not state.epoch:
            raise StreamMissing(f"stream {self._stream} has no epoch: bootstrap has not run")
        return state

    async def fill(self, target: int, *, check: Callable[[], None]) -> None:
        """Read until the position has reached the target and the replica has no more.

        Args:
            check: Called after every wait; raises if the answer is no longer valid.

        Raises:
            RetentionPassed: the stream has dropped what should come next.
            BusUnavailable: no answer; or the stream ends before the target.
        """
        stale_reads = 0
        while True:
            batch = await self._reader.batch(
                {
                    "seq": self._sequencer.position + 1,
                    "batch": self._limits.batch_messages,
                    "max_bytes": self._limits.batch_bytes,
                }
            )
            check()
            if batch.messages:
                stale_reads = 0
                await self._take(batch, check)
                if batch.pending:
                    continue
            if self._sequencer.position >= target:
                return
            # A replica may lag, so an empty answer proves nothing.
            stale_reads += 1
            if stale_reads < self._limits.max_stale_reads:
                await asyncio.sleep(self._limits.stale_read_seconds)
            elif await self._leader_has_no_more(target, check):
                return
            else:
                stale_reads = 0

    async def _take(self, batch: Batch, check: Callable[[], None]) -> None:
        gap = self._sequencer.first_gap([message.sequence for message in batch.messages])
        if gap is not None:
            state = await self.state()
            check()
            if state.first > gap:
                raise RetentionPassed(state)
        filled = 0
        for message in batch.messages:
            filled += message.sequence > self._sequencer.position
            named = message._replace(subject=self._name_of(message))
            for due in self._sequencer.fill(message.sequence, named):
                self._hand_over(due)
        if filled:
            self._on_filled(filled)

    def _name_of(self, message: StoredMessage) -> str:
        """What stands behind the prefix; nothing if the bus was made to store it here."""
        if message.subject.startswith(self._prefix):
            return message.subject.removeprefix(self._prefix)
        self._foreign.note(message.subject)
        return ""

    async def _leader_has_no_more(self, target: int, check: Callable[[], None]) -> bool:
        """Skip what was removed from the stream's end; False if replicas only lag."""
        state = await self.state()
        check()
        if state.last < target:  # the messages were lost with the leader that sent them live
            self._sequencer.forget_ahead()
            raise BusUnavailable("the stream ends before the last message that came live")
        if state.first > self._sequencer.position + 1:
            raise RetentionPassed(state)
        following = await self._reader.next_on_leader(">", self._sequencer.position + 1)
        if following is not None:
            return False
        check()
        for due in self._sequencer.skip_to(state.last):
            self._hand_over(due)
        return True
