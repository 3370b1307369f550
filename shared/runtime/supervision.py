"""Background loops: what happens when one fails, the same for every loop of every service.

A loop runs until it is cancelled. It handles expected failures itself, such as a bus or a database
that is away. If it ends in any other way, that is a bug: it raises, what it waits for is cancelled,
or it returns although it must not. Then:

1. The failure is logged with its traceback and counted, and the loop is started again after a
   pause that doubles up to a limit. The other loops and the process continue.
2. A vital loop that has failed several times in a row makes the process not ready, until it has
   run steadily again.
3. A vital loop that has not run steadily for `give_up_seconds` ends the process, so that a new one
   is started. A loop that is not vital never does: without it one function of the service stops,
   which harms less than closing every connection.

So wherever a loop is interrupted, it must be possible to run it again.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter

from hubbub_client.cancellation import end_if_cancelled, is_cancelled
from shared.runtime.backoff import Backoff
from shared.runtime.process import running

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loop:
    """Something that runs for as long as the process does."""

    name: str
    """A label of the metrics."""
    run: Callable[[], Coroutine[Any, Any, None]]
    is_vital: bool = True
    """Whether a process must not serve without it."""
    may_return: bool = False
    """Whether it may end by itself; then it is not started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisionLimits:
    """Pauses between starts, and when to give up."""

    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0
    steady_seconds: float = 10.0
    """A loop that has run this long has recovered."""
    unready_failures: int = 3
    """In a row, none of them after a steady run."""
    give_up_seconds: float = 60.0


class LoopEnded(Exception):
    """A loop returned that must run for ever, or what it waited for was cancelled."""


class LoopKeepsFailing(Exception):
    """A vital loop did not recover in time; the log has all its failures."""


class Supervisor:
    """Runs the background loops of one process."""

    def __init__(
        self, registry: CollectorRegistry | None = None, limits: SupervisionLimits | None = None
    ) -> None:
        self._limits = limits or SupervisionLimits()
        self._failures = Counter(
            "hubbub_loop_failures", "Times that a background loop failed and was started again.",
            ["loop"], registry=registry,
        )  # fmt: skip
        self._vital: set[_Life] = set()

    def not_ready(self) -> list[str]:
        """The vital loops that keep failing, as reasons for the operator."""
        names = sorted(life.loop.name for life in self._vital if life.keeps_failing)
        return [f"the background loop {name} keeps failing" for name in names]

    @asynccontextmanager
    async def running(self, *loops: Loop) -> AsyncGenerator[None]:
        """Run the loops beside the body; at its end they are cancelled and awaited.

        Raises:
            LoopKeepsFailing: in the body, in a group.
        """
        lives = [_Life(loop, self._limits) for loop in loops]
        vital = {life for life in lives if life.loop.is_vital}
        self._vital |= vital
        try:
            async with running(*(partial(self._keep, life) for life in lives)):
                yield
        finally:
            self._vital -= vital

    async def _keep(self, life: "_Life") -> None:
        name = life.loop.name
        failures = self._failures.labels(name)  # the series exists before the first failure
        while True:
            life.begin()
            try:
                await _run(life.loop)
            except Exception as error:
                failures.inc()
                pause = life.fail()
                log.exception("loop_failed", loop=name, again_in_seconds=pause)
                if life.loop.is_vital and life.has_failed_for >= self._limits.give_up_seconds:
                    log.critical("loop_given_up", loop=name)
                    raise LoopKeepsFailing(name) from error
                end_if_cancelled()
                await asyncio.sleep(pause)
            else:
                return


async def _run(loop: Loop) -> None:
    """Run it once.

    Raises:
        LoopEnded: it ended though it must not.
    """
    try:
        await loop.run()
    except asyncio.CancelledError as cancelled:
        if is_cancelled():
            raise
        raise LoopEnded("what it waited for was cancelled") from cancelled
    if not loop.may_return:
        raise LoopEnded("it returned")


class _Life:
    """The starts and failures of one loop."""

    def __init__(self, loop: Loop, limits: SupervisionLimits) -> None:
        self.loop = loop
        self._limits = limits
        self._backoff = Backoff(
            first_seconds=limits.first_pause_seconds,
            longest_seconds=limits.longest_pause_seconds,
            steady_seconds=limits.steady_seconds,
        )
        self._began_at: float | None = None
        """When it was last started; None during a pause."""
        self._failures = 0
        """In a row."""
        self._failing_since = 0.0

    @property
    def keeps_failing(self) -> bool:
        return self._failures >= self._limits.unready_failures and not self._is_steady

    @property
    def has_failed_for(self) -> float:
        """Seconds since the first failure in the row."""
        return time.monotonic() - self._failing_since

    @property
    def _is_steady(self) -> bool:
        return self._ran_seconds >= self._limits.steady_seconds

    @property
    def _ran_seconds(self) -> float:
        return 0.0 if self._began_at is None else time.monotonic() - self._began_at

    def begin(self) -> None:
        self._began_at = time.monotonic()

    def fail(self) -> float:
        """Note a failure; return the seconds to pause."""
        if self._is_steady or not self._failures:
            self._failures, self._failing_since = 0, time.monotonic()
        self._failures += 1
        pause = self._backoff.pause_after(self._ran_seconds)
        self._began_at = None
        return pause
