import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_client.contracts.ids import UserId
from shared.tokens.claims import Claims, SessionId
from shared.tokens.issuers import CLOCK_SKEW_SECONDS
from shared.tokens.revocations import Revocation, Revocations, SessionRevoked, UserRevoked
from tests.fixtures.tokens import MAX_TOKEN_SECONDS, NOW, Clock


def some_claims(
    user_id: int = 7, session: str | None = "s-1", issued_at: float | None = NOW - 10
) -> Claims:
    session_id = None if session is None else SessionId(session)
    return Claims(UserId(str(user_id)), "Ann", session_id, issued_at, NOW + 600)


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def session_revoked(session: str = "s-1", *, at: float = NOW) -> bytes:
    message = SessionRevoked(session_id=SessionId(session), user_id=UserId("7"), time=moment(at))
    return message.model_dump_json().encode()


def user_revoked(user_id: int = 7, *, at: float = NOW) -> bytes:
    return UserRevoked(user_id=UserId(str(user_id)), time=moment(at)).model_dump_json().encode()


def some_revocations(clock: Clock | None = None) -> Revocations:
    return Revocations(max_token_seconds=MAX_TOKEN_SECONDS, monotonic=clock or Clock())


def test_a_revoked_session_takes_all_its_tokens_with_it_and_nobody_elses() -> None:
    revocations = some_revocations()

    revocation = revocations.apply(session_revoked("s-1"))

    assert revocation == Revocation(SessionId("s-1"), UserId("7"), NOW)
    assert revocations.is_revoked(some_claims(issued_at=NOW + 5))
    assert revocation.covers(some_claims(issued_at=NOW + 5))
    for other in (some_claims(session="s-2"), some_claims(session=None)):
        assert not revocations.is_revoked(other)
        assert not revocation.covers(other)


def test_a_revoked_user_keeps_only_what_was_issued_afterwards() -> None:
    revocations = some_revocations()

    revocation = revocations.apply(user_revoked(7, at=NOW - 5))

    assert revocation is not None
    for claims, over in [
        (some_claims(issued_at=NOW - 5), True),
        (some_claims(issued_at=NOW - 4), False),
        (some_claims(issued_at=None), True),
        (some_claims(user_id=8), False),
    ]:
        assert revocations.is_revoked(claims) is over
        assert revocation.covers(claims) is over


def test_a_revocation_by_a_clock_ahead_covers_the_tokens_of_that_clock() -> None:
    revocations = some_revocations()
    ahead = NOW + CLOCK_SKEW_SECONDS - 1  # a token may be so far ahead, and is believed

    revocation = revocations.apply(user_revoked(at=ahead), stored_at=NOW)

    assert revocation is not None
    for issued_at in (ahead, ahead - 1, NOW):
        assert revocations.is_revoked(some_claims(issued_at=issued_at))
        assert revocation.covers(some_claims(issued_at=issued_at))


def test_an_older_revocation_of_a_user_does_not_undo_a_newer_one() -> None:
    revocations = some_revocations()

    revocations.apply(user_revoked(at=NOW - 5))
    revocations.apply(user_revoked(at=NOW - 50))

    assert revocations.is_revoked(some_claims(issued_at=NOW - 10))


def test_a_revocation_is_kept_for_as_long_as_a_token_may_live_and_then_dropped() -> None:
    clock = Clock()
    revocations = some_revocations(clock)
    revocations.apply(session_revoked("s-1"))
    revocations.apply(user_revoked(7))

    clock.now += MAX_TOKEN_SECONDS
    revocations.apply(session_revoked("s-2", at=clock.now))
    assert revocations.is_revoked(some_claims())
    assert len(revocations) == 3

    clock.now += CLOCK_SKEW_SECONDS + 1
    revocations.apply(session_revoked("s-3", at=clock.now))
    assert len(revocations) == 2


def test_a_revocation_that_looks_old_is_taken_in_all_the_same() -> None:
    """Whose clock is wrong can't be seen from it; if it is old indeed it does no harm."""
    revocations = some_revocations()

    assert revocations.apply(session_revoked(at=NOW - 10 * MAX_TOKEN_SECONDS)) is not None
    assert revocations.is_revoked(some_claims())


def test_a_message_of_a_clock_that_jumped_makes_nobody_forget_the_others() -> None:
    revocations = some_revocations()
    revocations.apply(session_revoked("s-1"), stored_at=NOW)

    for jump in (2 * 86_400, -2 * 86_400, 10**9):
        revocations.apply(session_revoked("s-2", at=NOW + jump), stored_at=NOW + jump)
        revocations.apply(user_revoked(9, at=NOW + jump), stored_at=NOW + jump)

    assert revocations.is_revoked(some_claims())


def test_a_writer_whose_clock_is_ahead_ends_nothing_that_begins_later() -> None:
    revocations = some_revocations()

    revocation = revocations.apply(user_revoked(at=NOW + 10**9), stored_at=NOW)

    assert revocation is not None
    later = some_claims(issued_at=NOW + CLOCK_SKEW_SECONDS + 1)
    assert not revocations.is_revoked(later)
    assert not revocation.covers(later)
    assert revocations.is_revoked(some_claims(issued_at=NOW))


def test_what_is_told_again_is_kept_anew_and_holds_up_nobody_else() -> None:
    clock = Clock()
    revocations = some_revocations(clock)
    revocations.apply(session_revoked("s-1"))
    revocations.apply(session_revoked("s-2"))

    clock.now += MAX_TOKEN_SECONDS
    revocations.apply(session_revoked("s-1"))
    clock.now += CLOCK_SKEW_SECONDS + 1
    revocations.apply(session_revoked("s-3"))

    assert revocations.is_revoked(some_claims(session="s-1"))
    assert not revocations.is_revoked(some_claims(session="s-2"))


def test_unknown_fields_of_a_newer_writer_are_passed_over() -> None:
    revocations = some_revocations()
    message = json.loads(session_revoked()) | {"reason": "new here"}

    assert revocations.apply(json.dumps(message).encode()) is not None


@pytest.mark.parametrize(
    "changes",
    [{"v": 2}, {"type": "session_started"}, {"session_id": ""}, {"session_id": "s" * 65},
     {"user_id": 0}, {"user_id": 2**63}, {"time": "noon"}, {"time": "2027-01-01T00:00:00"}],
    ids=str,
)  # fmt: skip
def test_a_message_that_is_no_revocation_changes_nothing(changes: dict[str, Any]) -> None:
    revocations = some_revocations()

    assert revocations.apply(json.dumps(json.loads(session_revoked()) | changes).encode()) is None
    assert len(revocations) == 0


@given(st.binary())
def test_any_bytes_are_a_revocation_or_nothing(payload: bytes) -> None:
    revocations = some_revocations()

    assert revocations.apply(payload) is None
    assert len(revocations) == 0
