"""The bucket against a model that keeps its level, and what it promises whatever comes."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.session.rate import CommandRate, RateLimits, Verdict

SECOND = 1_000_000_000
RATES = st.sampled_from([1, 2, 10, 50, 1000])  # whose intervals are whole nanoseconds
PAUSES = st.lists(
    st.one_of(st.just(0), st.integers(0, SECOND // 20), st.integers(0, 3 * SECOND)), max_size=60
)


class LevelledBucket:
    """The bucket as one draws it: what is in it, and since when."""

    def __init__(self, rate: int, burst: int, max_refusals: int) -> None:
        self.rate, self.burst, self.max_refusals = rate, burst, max_refusals
        self.level = Fraction(burst)
        self.at = 0
        self.refused = 0

    def take(self, now: int) -> Verdict:
        gained = Fraction(now - self.at, SECOND) * self.rate
        self.level, self.at = min(self.level + gained, Fraction(self.burst)), now
        if self.level == self.burst:
            self.refused = 0
        if self.level >= 1:
            self.level -= 1
            return Verdict.EXECUTE
        self.refused += 1
        return Verdict.CLOSE if self.refused > self.max_refusals else Verdict.REFUSE


def a_rate(rate: float = 50, burst: int = 100, max_refusals: int = 200) -> CommandRate:
    limits = RateLimits(commands_per_second=rate, burst=burst, max_refusals=max_refusals)
    return CommandRate(limits)


@given(RATES, st.integers(1, 8), st.integers(0, 5), st.integers(0, 10**18), PAUSES)
def test_it_judges_as_a_bucket_with_a_level_does(
    rate: int, burst: int, max_refusals: int, start: int, pauses: list[int]
) -> None:
    model = LevelledBucket(rate, burst, max_refusals)
    bucket, now = a_rate(rate, burst, max_refusals), start
    for pause in pauses:
        now += pause
        assert bucket.take(now) is model.take(now)


@given(st.floats(0.01, 10_000), st.integers(1, 300), PAUSES)
def test_no_span_of_time_sees_more_than_a_burst_and_what_it_gains(
    rate: float, burst: int, pauses: list[int]
) -> None:
    bucket, now = a_rate(rate, burst), 0
    executed: list[int] = []
    for pause in pauses:
        now += pause
        if bucket.take(now) is Verdict.EXECUTE:
            executed.append(now)
    for first in range(len(executed)):
        for last in range(first, len(executed)):
            gained = (executed[last] - executed[first]) / SECOND * rate
            assert last - first + 1 <= burst + gained * (1 + 1e-6) + 1e-6


def test_who_keeps_to_the_rate_is_never_refused() -> None:
    bucket, now = a_rate(50, burst=1), 0
    for _ in range(10_000):
        now += SECOND // 50
        assert bucket.take(now) is Verdict.EXECUTE


def test_a_burst_passes_and_more_is_refused_until_it_is_too_much() -> None:
    bucket = a_rate(50, burst=3, max_refusals=2)

    verdicts = [bucket.take(SECOND) for _ in range(6)]

    assert verdicts == [Verdict.EXECUTE] * 3 + [Verdict.REFUSE] * 2 + [Verdict.CLOSE]


def test_refusals_are_forgiven_once_the_bucket_is_full() -> None:
    bucket = a_rate(1, burst=1, max_refusals=1)
    for second in range(1, 50):
        assert bucket.take(second * SECOND) is Verdict.EXECUTE
        assert bucket.take(second * SECOND) is Verdict.REFUSE


def test_without_a_rate_there_is_no_limit() -> None:
    bucket = a_rate(0, burst=1, max_refusals=0)

    assert {bucket.take(7) for _ in range(1000)} == {Verdict.EXECUTE}
