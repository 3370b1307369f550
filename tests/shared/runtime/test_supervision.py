"""What becomes of a background loop that raises, and of the process around it."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from shared.runtime.supervision import Loop, LoopKeepsFailing, SupervisionLimits, Supervisor
from tests.fixtures.waiting import eventually

NEVER_STEADY = SupervisionLimits(first_pause_seconds=0.001, longest_pause_seconds=0.002)
SOON_STEADY = SupervisionLimits(first_pause_seconds=0.001, steady_seconds=0.5)
SOON_GIVEN_UP = SupervisionLimits(
    first_pause_seconds=0.001, longest_pause_seconds=0.001, give_up_seconds=0.02
)


class Stumbling:
    """A loop that raises at its first starts, and then runs."""

    def __init__(self, failures: float) -> None:
        self.starts = 0
        self._failures = failures

    async def run(self) -> None:
        self.starts += 1
        if self.starts <= self._failures:
            raise RuntimeError("the loop broke")
        await asyncio.Event().wait()


def failures_of(registry: CollectorRegistry, loop: str) -> float | None:
    return registry.get_sample_value("hubbub_loop_failures_total", {"loop": loop})


async def test_a_loop_that_raises_is_logged_counted_and_started_again_and_nobody_else_notices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry, stumbling, steady = CollectorRegistry(), Stumbling(2), Stumbling(0)
    supervisor = Supervisor(registry, NEVER_STEADY)
    loops = [Loop("stumbling", stumbling.run), Loop("steady", steady.run)]

    async with supervisor.running(*loops):
        await eventually(lambda: stumbling.starts == 3)
        assert supervisor.not_ready() == []

    assert steady.starts == 1
    assert failures_of(registry, "stumbling") == 2
    assert failures_of(registry, "steady") == 0
    assert capsys.readouterr().out.count("RuntimeError: the loop broke") == 2


async def test_a_loop_that_is_done_is_not_started_again() -> None:
    done: list[None] = []

    async def once() -> None:
        done.append(None)

    async with Supervisor(limits=NEVER_STEADY).running(Loop("once", once, may_return=True)):
        await eventually(lambda: bool(done))
    assert len(done) == 1


async def test_a_loop_that_returns_and_may_not_has_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry = CollectorRegistry()
    supervisor = Supervisor(registry, NEVER_STEADY)

    async def returns() -> None:
        pass

    async with supervisor.running(Loop("sweep", returns)):
        await eventually(lambda: bool(supervisor.not_ready()))

    assert (failures_of(registry, "sweep") or 0) >= 3
    assert "LoopEnded: it returned" in capsys.readouterr().out


async def test_a_loop_whose_future_somebody_else_cancels_has_failed_and_is_started_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry, waits = CollectorRegistry(), list[asyncio.Future[None]]()

    async def waiting() -> None:
        waits.append(asyncio.get_running_loop().create_future())
        await waits[-1]

    async with Supervisor(registry, NEVER_STEADY).running(Loop("feed", waiting)):
        await eventually(lambda: bool(waits))
        waits[0].cancel()
        await eventually(lambda: len(waits) == 2)
        assert failures_of(registry, "feed") == 1

    assert failures_of(registry, "feed") == 1, "the end is none"
    assert "LoopEnded: what it waited for was cancelled" in capsys.readouterr().out


async def test_a_loop_that_fails_as_it_is_cancelled_is_not_started_again() -> None:
    starts, has_begun = 0, asyncio.Event()

    async def failing_at_its_end() -> None:
        nonlocal starts
        starts += 1
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError("a bug") from None

    async with asyncio.timeout(10):
        async with Supervisor().running(Loop("feed", failing_at_its_end)):
            await has_begun.wait()

    assert starts == 1


async def test_a_process_is_not_ready_while_a_vital_loop_keeps_failing_and_ready_once_it_runs() -> (
    None
):
    stumbling = Stumbling(3)
    supervisor = Supervisor(limits=SOON_STEADY)

    async with supervisor.running(Loop("sweep", stumbling.run)):
        await eventually(lambda: stumbling.starts == 4)
        assert supervisor.not_ready() == ["the background loop sweep keeps failing"]
        await eventually(lambda: supervisor.not_ready() == [])


async def test_a_vital_loop_that_does_not_recover_ends_the_process() -> None:
    supervisor = Supervisor(limits=SOON_GIVEN_UP)

    with pytest.RaisesGroup(pytest.RaisesExc(LoopKeepsFailing, match="sweep")):
        async with supervisor.running(Loop("sweep", Stumbling(1e9).run)), asyncio.timeout(10):
            await asyncio.Event().wait()

    assert supervisor.not_ready() == []


async def test_a_loop_that_is_not_vital_may_fail_for_ever_and_costs_nothing_else() -> None:
    stumbling = Stumbling(1e9)
    supervisor = Supervisor(limits=SOON_GIVEN_UP)

    async with supervisor.running(Loop("notify", stumbling.run, is_vital=False)):
        await eventually(lambda: stumbling.starts >= 5)
        assert supervisor.not_ready() == []
