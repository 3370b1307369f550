from structlog.testing import capture_logs

from gateway.proxies.errors import FailureLog
from tests.fixtures.tokens import Clock


def test_a_flood_of_failures_is_a_line_a_second_of_each_kind_and_a_count() -> None:
    clock = Clock()
    failures = FailureLog(monotonic=clock)

    with capture_logs() as logs:
        for number in range(100):
            failures.tell("connect", f"reason {number}")
        failures.tell("rpc", "another")
        clock.now += 1
        failures.tell("connect", "the last")

    told = [(each["question"], each["reason"], each.get("untold", 0)) for each in logs]
    assert told == [("connect", "reason 0", 0), ("rpc", "another", 0), ("connect", "the last", 99)]
