"""Readiness is found out once a turn, and only as long as nothing stands in the way."""

from collections.abc import Callable

import pytest

from gateway.session.access import Access, Authenticator, Occupancy, UserLimit
from gateway.session.buckets import Buckets
from gateway.session.readiness import Readiness
from hubbub_client.contracts.errors import AppError, Unavailable
from shared.tokens.claims import Claims
from shared.tokens.revocations import Revocations
from tests.fixtures.tokens import MAX_TOKEN_SECONDS, a_token, a_verifier, some_claims
from tests.gateway.connections import AConnection


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


async def test_no_token_is_taken_in_the_turn_in_which_the_revocations_became_unknown(
    gateway: Gateway,
) -> None:
    access = Access(
        Authenticator(
            a_verifier(),
            Revocations(max_token_seconds=MAX_TOKEN_SECONDS),
            knows_revocations=lambda: not gateway.reasons,
        ),
        Occupancy(max_connections=0, max_per_address=0),
        UserLimit(0, here=lambda _: 0, elsewhere=lambda _: 0),
        Buckets(units_per_second=0, burst=1, max_users=1),
        gateway.readiness.not_ready,
    )
    admitted, refused, token = list[Claims](), list[AppError](), a_token(some_claims())

    def come_in() -> None:
        assert access.not_ready() == []
        access.sign_in(token, AConnection(), admit=admitted.append, refuse=refused.append)

    come_in()
    gateway.reasons = ["the revocations are not read up to their end"]
    come_in()

    assert (len(admitted), [type(error) for error in refused]) == (1, [Unavailable])
