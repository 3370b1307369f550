"""When a jump of the wall clock counts for connections that are open."""

import pytest

from gateway.session.clock import ClockWatch

TWO_DAYS = 2 * 86400.0


class Clocks:
    """Two of them, and whoever watches one by the other."""

    def __init__(self) -> None:
        self.now = 100.0
        self.offset = 1_700_000_000.0
        self.settled = 0
        self.watch = ClockWatch(
            self._settle,
            settle_seconds=10,
            unix=lambda: self.now + self.offset,
            now=lambda: self.now,
        )

    def _settle(self) -> None:
        self.settled += 1

    def go_on(self, seconds: int, *, drift: float = 0.0) -> None:
        for _ in range(seconds):
            self.now += 1
            self.offset += drift
            self.watch.look()


@pytest.mark.parametrize("jump", [TWO_DAYS, -TWO_DAYS])
def test_a_jump_and_back_counts_only_once_the_clock_is_right_again(jump: float) -> None:
    clocks = Clocks()
    clocks.go_on(5)

    clocks.offset += jump
    clocks.go_on(8)
    clocks.offset -= jump
    clocks.go_on(9)
    assert clocks.settled == 0
    clocks.go_on(5)

    assert clocks.settled == 1, "for those who came in between"


@pytest.mark.parametrize("jump", [TWO_DAYS, -TWO_DAYS, 90.0])
def test_a_jump_that_stands_counts_once(jump: float) -> None:
    clocks = Clocks()

    clocks.offset += jump
    clocks.go_on(10)
    assert clocks.settled == 0
    clocks.go_on(100)

    assert clocks.settled == 1


def test_a_clock_that_is_kept_right_little_by_little_does_not_jump() -> None:
    clocks = Clocks()

    clocks.go_on(1000, drift=0.0005)

    assert clocks.settled == 0
