"""Background loops: what happens when one raises. The same for every loop of every service.

A loop runs until it is cancelled. What it has to expect, such as a bus or a database that is
away, it handles itself. Whatever else ends it is a fault of ours: that it raises, that somebody
else cancelled what it waited for, or that it returns and isn't said to. The rule is:

1. It is logged with its traceback, counted, and the loop is started again after a pause that
   doubles up to a limit. The others go on, and so does the process.
2. A vital loop that has failed several times in a row makes the process not ready, until it has
   run steadily again.
3. A vital loop that has not run steadily for `give_up_seconds` ends the process: a new one is
   all that is left to try. A loop that is not vital never does: what it is there for stands
   still, which hurts less than to close every connection for it.

So a loop must leave things such that `run` can begin anew, also if it was interrupted anywhere.
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

from shared.runtime.backoff import Backoff
from shared.runtime.process import running

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loop:
    """Something that runs for as long as the process does."""

    name: str
    """One of few: it becomes a label of the metrics."""
    run: Callable[[], Coroutine[Any, Any, None]]
    is_vital: bool = True
    """Whether a process must not serve without it."""
    may_return: bool = False
    """Whether it may be done some time; then it is not started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisionLimits:
    """How soon, how often, for how long."""

    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0
    steady_seconds: float = 10.0
    """A loop that has run for so long has recovered."""
    unready_failures: int = 3
    """In a row, none of them after a steady run."""
    give_up_seconds: float = 60.0


class LoopEnded(Exception):
    """A loop ended that is to run for ever, though nothing was raised that says why."""


class LoopKeepsFailing(Exception):
    """A vital loop did not recover in time; the log has every one of its failures."""


class Supervisor:
    """Runs the background loops of one process, and knows how they are."""

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
        """The vital loops that keep failing now, in the operator's words."""
        names = sorted(life.loop.name for life in self._vital if life.keeps_failing)
        return [f"the background loop {name} keeps failing" for name in names]

    @asynccontextmanager
    async def running(self, *loops: Loop) -> AsyncGenerator[None]:
        """Run the loops beside the body; at its end they are cancelled and waited for.

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
        failures = self._failures.labels(name)  # seen as 0 before the first
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
                await asyncio.sleep(pause)
            else:
                return


async def _run(loop: Loop) -> None:
    """Run it until it is done, if it may be.

    Raises:
        LoopEnded: it is over, and nobody asked for that.
    """
    task = asyncio.current_task()
    assert task is not None
    try:
        await loop.run()
    except asyncio.CancelledError as cancelled:
        if task.cancelling():
            raise
        raise LoopEnded("what it waited for was cancelled") from cancelled
    if not loop.may_return:
        raise LoopEnded("it returned")


class _Life:
    """One loop from its first start on."""

    def __init__(self, loop: Loop, limits: SupervisionLimits) -> None:
        self.loop = loop
        self._limits = limits
        self._backoff = Backoff(
            first_seconds=limits.first_pause_seconds,
            longest_seconds=limits.longest_pause_seconds,
            steady_seconds=limits.steady_seconds,
        )
        self._began_at: float | None = None
        """When it was started the last time; None while it pauses."""
        self._failures = 0
        """In a row."""
        self._failing_since = 0.0

    @property
    def keeps_failing(self) -> bool:
        return self._failures >= self._limits.unready_failures and not self._is_steady

    @property
    def has_failed_for(self) -> float:
        """Seconds since the first failure of the row."""
        return time.monotonic() - self._failing_since

    @property
    def _is_steady(self) -> bool:
        return self._lived_seconds >= self._limits.steady_seconds

    @property
    def _lived_seconds(self) -> float:
        return 0.0 if self._began_at is None else time.monotonic() - self._began_at

    def begin(self) -> None:
        self._began_at = time.monotonic()

    def fail(self) -> float:
        """Take note of a failure; return how long to pause."""
        if self._is_steady or not self._failures:
            self._failures, self._failing_since = 0, time.monotonic()
        self._failures += 1
        pause = self._backoff.pause_after(self._lived_seconds)
        self._began_at = None
        return pause
