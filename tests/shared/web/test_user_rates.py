"""The users' buckets against a model that forgets nothing, and how many of them are kept."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_client.contracts.ids import UserId
from shared.web.user_rates import TooFast, UserRates

SECOND = 1_000_000_000
ANN, BEN = UserId("1"), UserId("2")
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, SECOND // 100, SECOND // 3, 2 * SECOND, 9 * SECOND]),
        st.sampled_from([UserId(str(number)) for number in range(4)]),
        st.integers(1, 12),
    ),
    max_size=60,
)


def some_rates(rate: float = 10, burst: int = 20, max_users: int = 1000) -> UserRates:
    return UserRates(units_per_second=rate, burst=burst, max_users=max_users)


@given(st.sampled_from([1, 2, 10, 50]), st.integers(1, 30), st.integers(0, 10**18), STEPS)
def test_it_judges_as_if_no_bucket_was_ever_forgotten(
    rate: int, burst: int, start: int, steps: list[tuple[int, UserId, int]]
) -> None:
    rates, now = some_rates(rate, burst), start
    levels: dict[UserId, tuple[Fraction, int]] = {}
    for pause, user, units in steps:
        now += pause
        level, at = levels.get(user, (Fraction(burst), now))
        level = min(level + Fraction(now - at, SECOND) * rate, Fraction(burst))
        units = min(units, burst)
        missing = rates.take(user, units, now)
        assert missing == max(units - level, Fraction(0)) / rate * SECOND
        levels[user] = (level if missing else level - units, now)


def test_what_one_takes_is_not_missing_to_another() -> None:
    rates = some_rates(burst=3)

    assert [rates.take(ANN, 3, SECOND), rates.take(BEN, 3, SECOND)] == [0, 0]
    assert rates.take(ANN, 1, SECOND) == SECOND // 10


def test_who_was_quiet_until_the_bucket_was_full_is_not_kept() -> None:
    rates = some_rates(rate=10, burst=20)  # which fills in 2 s
    for number in range(500):
        rates.take(UserId(str(number)), 20, SECOND)
    assert len(rates) == 500

    rates.take(ANN, 1, 4 * SECOND)
    rates.take(ANN, 1, 9 * SECOND)

    assert len(rates) == 1


def test_no_number_of_users_makes_it_grow_without_bound() -> None:
    rates = some_rates(rate=0.001, max_users=100)
    for number in range(10_000):
        rates.take(UserId(str(number)), 1, SECOND)

    assert len(rates) <= 200


def test_without_a_rate_there_is_no_limit_and_nothing_is_kept() -> None:
    rates = some_rates(rate=0, burst=1)

    assert {rates.take(ANN, 1000, SECOND) for _ in range(1000)} == {0}
    assert len(rates) == 0


def test_who_is_refused_is_told_in_whole_seconds_when_to_come_again() -> None:
    rates = some_rates(rate=0.4, burst=2)
    rates.charge(ANN, 2)

    with pytest.raises(TooFast) as caught:
        rates.charge(ANN, 1)

    assert (caught.value.code, caught.value.retry_after_seconds) == ("rate_limited", 3)
