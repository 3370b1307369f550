"""Turns of readers that only count."""

from collections.abc import Callable

from gateway.transport.websocket import ReadTurns


class AReader:
    """Has so much to read, and tells when it does."""

    def __init__(self, name: str, turns: ReadTurns, log: list[str], *, left: int) -> None:
        self._name = name
        self._turns = turns
        self._log = log
        self._left = left

    def read_on(self) -> None:
        self._log.append(self._name)
        self._left -= 1
        if self._left:
            self._turns.wait(self.read_on)


def test_a_turn_serves_a_few_and_each_is_served_once_before_any_is_served_twice() -> None:
    due, log = list[Callable[[], None]](), list[str]()
    turns = ReadTurns(due.append)
    names = [f"reader {number}" for number in range(100)]
    for name in names:
        turns.wait(AReader(name, turns, log, left=3).read_on)

    served = []
    while due:
        [serve] = due
        due.clear()
        before = len(log)
        serve()
        served.append(len(log) - before)

    assert log == names * 3
    assert max(served) <= 10
