"""Readiness is found out once a turn, and only as long as nothing stands in the way."""

from collections.abc import Callable

import pytest

from gateway.session.readiness import Readiness


class Gateway:
    """Says what stands in its way, and counts how often it was asked."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.asked = 0
        self.scheduled: list[Callable[[], None]] = []
        self.readiness = Readiness(self._find_out, self.scheduled.append)

    def _find_out(self) -> list[str]:
        self.asked += 1
        return self.reasons

    def end_turn(self) -> None:
        for call in self.scheduled:
            call()
        self.scheduled.clear()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_all_who_come_in_one_turn_are_let_in_by_one_answer(gateway: Gateway) -> None:
    answers = [gateway.readiness.not_ready() for _ in range(3)]

    assert (answers, gateway.asked) == ([[], [], []], 1)


def test_who_comes_in_the_next_turn_is_refused_if_something_stands_in_the_way(
    gateway: Gateway,
) -> None:
    gateway.readiness.not_ready()
    gateway.reasons = ["draining"]
    gateway.end_turn()

    assert gateway.readiness.not_ready() == ["draining"]


def test_who_comes_once_nothing_stands_in_the_way_any_more_is_let_in_at_once(
    gateway: Gateway,
) -> None:
    gateway.reasons = ["draining"]
    gateway.readiness.not_ready()
    gateway.reasons = []

    assert gateway.readiness.not_ready() == []
