"""Following a stream: one wildcard subscription, and the contiguity of its sequence.

The live copy of a message is sent at most once, and a leader may die between storing a message and
sending it: a quiet stream and one with a hole look alike. So the follower delivers
``position + 1``, drops what is lower, and by Direct Get fills the hole before what is higher.
After a second of silence, a reconnect or the election of a leader it asks for ``position + 1``: it
may not have noticed a disconnect.

A follower is *verified* when the leader has said the stream's epoch and end, the message at the
position still has its time, and everything up to that end was delivered. A disconnect, or no
answer for a while, makes it *stale*: it holds live messages until it is verified again.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

import structlog

from hubbub_client.jetstream.api import StoredMessage, StreamState
from hubbub_client.jetstream.clock import Clock, our_clock
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, StreamMissing
from hubbub_client.nats.headers import sequence_of
from shared.jetstream.filling import Filler, RetentionPassed
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.position import RETENTION, Position, why_invalid
from shared.jetstream.sequencer import Gap, Sequencer

log = structlog.get_logger(__name__)


class Verification:
    """Whether the follower is verified, until the next `mark_stale`."""

    def __init__(self) -> None:
        self.began_at = 0.0
        """When the last verification began, by the monotonic clock."""
        self.stale_since = time.monotonic()
        self.holds = False
        self._generation = 0
        self._confirmed = asyncio.Event()
        self._next = asyncio.Event()

    @property
    def generation(self) -> int:
        """Counts the calls of `mark_stale`; to be given to `check` after a wait."""
        return self._generation

    def check(self, generation: int) -> None:
        """See that `mark_stale` was not called since.

        Raises:
            BusUnavailable: it was, so what was read may come from an earlier connection.
        """
        if generation != self._generation:
            raise BusUnavailable("stale again")

    def mark_stale(self) -> None:
        self._generation += 1
        self.stale_since = time.monotonic()
        self.suspend()

    def suspend(self) -> None:
        """Not verified for now; reads that are under way stay valid."""
        self.holds = False
        self._confirmed.clear()

    def confirm(self, began_at: float) -> None:
        self.began_at = began_at
        self.holds = True
        self._confirmed.set()
        self._next.set()
        self._next = asyncio.Event()

    async def until_holds(self) -> None:
        await self._confirmed.wait()

    async def until_next(self) -> None:
        await self._next.wait()


class Follower:
    """Delivers every message of a stream, once and in order, for as long as `run` runs."""

    def __init__(
        self,
        bus: Bus,
        stream: str,
        stored_prefix: str,
        live_prefix: str,
        *,
        deliver: Callable[[StoredMessage], None],
        on_reset: Callable[[str], None] = lambda _reason: None,
        on_skipped: Callable[[int, int], None] = lambda _first, _last: None,
        on_filled: Callable[[int], None] = lambda _count: None,
        from_start: bool = False,
        after: "Follower | None" = None,
        limits: FollowerLimits | None = None,
        now: Clock = our_clock,
    ) -> None:
        """Callbacks are synchronous; if one raises, it is logged, and the next message follows.

        Args:
            stored_prefix: Of the stream's subjects, such as ``rt.pub.``. What it was made to hold
                under another one is not delivered.
            live_prefix: Of the live copies, such as ``rt.live.``; both prefixes are cut off the
                subjects that ``deliver`` gets.
            deliver: Gets each message.
            on_reset: The position has jumped, for the given reason. A follower from the start
                begins at the stream's first message again, others continue at its end.
            on_skipped: Gets the first and last of sequences that no longer exist, and whose
                messages were not delivered.
            on_filled: Gets how many messages were read from the stream because they did not
                come live.
            from_start: Deliver all that the stream holds before it counts as caught up.
            after: Once stale, deliver nothing before that follower is verified: revocations come
                before publications.
        """
        self.epoch = ""
        """The epoch of the position; empty before the first contact."""
        self.clock_ahead_seconds = 0.0
        """By how much our clock is ahead of the bus's at least, at the last verification."""
        self._bus = bus
        self._stream = stream
        self._live_prefix = live_prefix
        self._deliver = deliver
        self._on_reset = on_reset
        self._on_skipped = on_skipped
        self._from_start = from_start
        self._after = after
        self._limits = limits or FollowerLimits()
        self._reader = StreamReader(
            bus, stream, answer_seconds=self._limits.answer_seconds, now=now
        )
        self._sequencer: Sequencer[StoredMessage] = Sequencer(
            max_held_bytes=self._limits.max_held_bytes
        )
        self._filler = Filler(
            self._reader,
            stream,
            self._sequencer,
            prefix=stored_prefix,
            hand_over=self._hand_over,
            on_filled=on_filled,
            limits=self._limits,
        )
        self._last: StoredMessage | None = None  # the one at the position, if it was delivered
        self._time_at_jump = ""
        self._verification = Verification()
        self._answered_at = 0.0
        self._must_verify = False
        self._replaying = False
        self._active_at = 0.0
        self._wake = asyncio.Event()

    @property
    def position(self) -> int:
        """The last sequence that was delivered or skipped; 0 before the first contact."""
        return self._sequencer.position

    @property
    def lag(self) -> int:
        """How many sequences are known to come after the position."""
        return self._sequencer.highest - self._sequencer.position

    @property
    def caught_up(self) -> bool:
        """Connected and verified."""
        return self._verification.holds

    async def until_caught_up(self) -> None:
        await self._verification.until_holds()

    async def until_verified_since(self, moment: float) -> None:
        """Wait for a verification that began after the moment, by the monotonic clock."""
        while not self.caught_up or self._verification.began_at < moment:
            self._verify_soon()
            await self._verification.until_next()

    async def run(self) -> None:
        """Follow until cancelled; neither a bad message nor a failing callback ends it.

        If it is run again, it continues where it was.
        """
        with ExitStack() as at_end:
            at_end.callback(self._mark_stale)
            at_end.callback(self._bus.on_connected(self._wake.set))
            at_end.callback(self._bus.on_disconnected(self._mark_stale))
            # Before the stream is first read, so that what is stored later comes live.
            live = await self._bus.subscribe(f"{self._live_prefix}>", self._take_live)
            at_end.callback(live.close)
            elected = await self._bus.subscribe(
                f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{self._stream}",
                lambda *_advisory: self._verify_soon(),
            )
            at_end.callback(elected.close)
            while True:
                await self._bus.until_connected()
                try:
                    await self._look()
                except BusUnavailable as unavailable:
                    await self._pause(unavailable)
                else:
                    await self._rest()

    def _take_live(
        self, subject: bytes, payload: bytes, headers: bytes | None, _reply: bytes
    ) -> None:
        try:
            sequence = sequence_of(headers or b"")
        except ValueError:
            log.warning("live_message_without_sequence", stream=self._stream)
            return
        name = subject[len(self._live_prefix) :].decode(errors="replace")
        message = StoredMessage(sequence, name, payload, headers or b"")
        if self._verification.holds and self._sequencer.is_next(sequence):
            self._active_at = time.monotonic()
            self._hand_over(message)
            if self._sequencer.held_bytes:
                self._hand_over_due()
        elif not self.caught_up or sequence > self.position:
            self._sequencer.hold(sequence, message, len(payload) + len(message.headers))
            self._wake.set()
        elif not self._time:
            self._verify_soon()  # a repeat, or of another epoch: ask
        elif message.time.rstrip("Z") > self._time.rstrip("Z"):
            self._mark_stale()  # later than the message at the position: sequences are given again

    def _hand_over_due(self) -> None:
        for message in self._sequencer.due():
            self._hand_over(message)

    def _hand_over(self, due: StoredMessage | Gap) -> None:
        if type(due) is StoredMessage:
            self._last = due
            if due.subject:
                self._call(self._deliver, due)
        else:
            self._last, self._time_at_jump = None, ""
            if not self._replaying:  # what was removed before the start was not missed
                self._call(self._on_skipped, *due)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # one unreadable message must not stop the stream
            log.exception("follower_callback_failed", stream=self._stream, position=self.position)

    @property
    def _time(self) -> str:
        return self._last.time if self._last is not None else self._time_at_jump

    def _verify_soon(self) -> None:
        """Ask the leader at the next step, and continue to deliver meanwhile."""
        self._must_verify = True
        self._wake.set()

    def _mark_stale(self) -> None:
        """Deliver nothing until verified."""
        self._verification.mark_stale()
        self._wake.set()

    async def _pause(self, failure: BusUnavailable) -> None:
        self._must_verify = True
        unanswered_seconds = time.monotonic() - self._answered_at
        if (
            not self.caught_up
            or isinstance(failure, StreamMissing)
            or unanswered_seconds > self._limits.stale_seconds
        ):
            if self.caught_up:
                log.warning("follower_doubts", stream=self._stream, reason=str(failure))
            self._mark_stale()
        await asyncio.sleep(self._limits.retry_seconds)

    async def _rest(self) -> None:
        """Wait for something to do, or for `idle_seconds` of silence."""
        quiet_at = self._active_at + self._limits.idle_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(max(quiet_at - time.monotonic(), 0)):
                await self._wake.wait()
        self._wake.clear()

    async def _look(self) -> None:
        """Verify or fill, if there is a reason to."""
        now = time.monotonic()
        is_due = now - self._verification.began_at >= self._limits.verify_seconds
        if self._must_verify or is_due or not self.caught_up:
            await self._verify()
        elif self.lag or now - self._active_at >= self._limits.idle_seconds:
            await self._fill(self._sequencer.highest)
        else:
            return
        self._active_at = self._answered_at = time.monotonic()

    async def _verify(self) -> None:
        check = partial(self._verification.check, self._verification.generation)
        if self._after is not None and not self.caught_up:
            await self._until_verified(self._after)
        began_at = time.monotonic()
        self._must_verify = False
        before = Position(self.epoch, self.position, self._time)
        state = await self._filler.state()
        self.clock_ahead_seconds = state.clock_ahead_seconds
        check()
        if not self.epoch:
            self._begin(state)
        else:
            reason = await why_invalid(before, state, self._reader)
            check()
            if reason is not None:
                self._reset(reason, state)
        self._sequencer.note_exists(state.last)
        await self._fill(self._sequencer.highest)
        check()
        if not self.caught_up:
            log.info("follower_caught_up", stream=self._stream, position=self.position)
        self._replaying = False
        self._verification.confirm(began_at)
        self._hand_over_due()
        if self.lag:
            self._wake.set()

    async def _until_verified(self, predecessor: "Follower") -> None:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                await predecessor.until_verified_since(self._verification.stale_since)
        except TimeoutError as error:
            raise BusUnavailable("the follower to wait for is not verified") from error

    async def _fill(self, target: int) -> None:
        check = partial(self._verification.check, self._verification.generation)
        while True:
            try:
                await self._filler.fill(target, check=check)
            except RetentionPassed as passed:
                self._reset(RETENTION, passed.state)
                target = passed.state.last
            else:
                return

    def _begin(self, state: StreamState) -> None:
        """Begin at the stream's first or last message."""
        self.epoch = state.epoch
        self._last = None
        self._replaying = self._from_start
        self._time_at_jump = "" if self._from_start else state.last_time
        self._sequencer.jump(state.first - 1 if self._from_start else state.last)

    def _reset(self, reason: str, state: StreamState) -> None:
        log.warning("follower_reset", stream=self._stream, reason=reason, was=self.position)
        self._verification.suspend()
        self._wake.set()
        self._begin(state)
        self._sequencer.forget_ahead()
        self._call(self._on_reset, reason)
