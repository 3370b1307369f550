"""Who reads next, of readers that only count."""

from collections.abc import Callable

from gateway.transport.turns import Turns


class AReader:
    """Has so much to read, and tells when it does."""

    def __init__(self, name: str, turns: Turns, log: list[str], *, left: int) -> None:
        self._name = name
        self._turns = turns
        self._log = log
        self._left = left
        self.failed: Exception | None = None

    def read_on(self) -> None:
        self._log.append(self._name)
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("a reader that fails")
        if self._left:
            self._turns.wait(self)

    def abandon(self, error: Exception, event: str) -> None:
        self.failed = error


class ALoop:
    """Turns when a test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def turn(self) -> None:
        due = list(self.due)
        self.due.clear()
        for each in due:
            each()


def test_a_turn_serves_a_few_and_all_have_theirs_before_anybody_has_two() -> None:
    loop, log = ALoop(), list[str]()
    turns = Turns(loop.due.append)
    names = [f"reader {number}" for number in range(100)]
    for name in names:
        turns.wait(AReader(name, turns, log, left=3))

    served = []
    while loop.due:
        assert len(loop.due) == 1
        before = len(log)
        loop.turn()
        served.append(len(log) - before)

    assert log == names * 3
    assert max(served) <= 10


def test_one_that_fails_costs_nobody_else_its_turn() -> None:
    loop, log = ALoop(), list[str]()
    turns = Turns(loop.due.append)
    failing, other = (AReader(name, turns, log, left=left) for name, left in (("a", 0), ("b", 2)))
    turns.wait(failing)
    turns.wait(other)

    while loop.due:
        loop.turn()

    assert log == ["a", "b", "b"]
    assert isinstance(failing.failed, RuntimeError)
