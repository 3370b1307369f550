"""What the log says of refused tokens."""

import pytest
from structlog.testing import capture_logs

from gateway.session.access import Authenticator
from gateway.session.refusals import REFUSALS_TOLD_A_SECOND, RefusalLog
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.ids import ConnectionId, UserId
from shared.tokens.claims import Subscriber
from shared.tokens.errors import InvalidToken, TokenExpired, TokenMismatch
from shared.tokens.revocations import Revocations, UserRevoked
from tests.fixtures.tokens import NOW, Clock, a_foreign_token, a_token, a_verifier, some_claims

SOMEBODY = Subscriber(UserId("8"), ConnectionId("c"), None)


def refuse(refusals: RefusalLog, error: Exception) -> None:
    with pytest.raises(type(error)), refusals:
        raise error


def test_a_flood_of_bad_tokens_is_some_lines_a_second_and_a_count() -> None:
    clock = Clock()
    refusals = RefusalLog(monotonic=clock)

    with capture_logs() as logs:
        for number in range(1000):
            refuse(refusals, InvalidToken(f"reason {number}"))
        clock.now += 1
        refuse(refusals, TokenExpired("the last one"))
        refuse(refusals, InvalidToken("and one more"))

    assert len(logs) == REFUSALS_TOLD_A_SECOND + 2
    assert logs[0] == {"event": "token_refused", "reason": "reason 0", "log_level": "info"}
    assert logs[-2] == {
        "event": "token_refused",
        "reason": "the last one",
        "untold": 1000 - REFUSALS_TOLD_A_SECOND,
        "log_level": "info",
    }
    assert "untold" not in logs[-1]


def test_what_is_no_refusal_is_not_told() -> None:
    refusals = RefusalLog()

    with capture_logs() as logs:
        refuse(refusals, Unavailable("the keys are not known"))
        with refusals:
            pass

    assert logs == []


async def test_each_way_to_show_a_token_tells_why_it_is_refused() -> None:
    revocations = Revocations(max_token_seconds=3600)
    authenticator = Authenticator(a_verifier(), revocations, knows_revocations=lambda: True)
    revocations.apply(UserRevoked(user_id=UserId("9")).model_dump_json().encode())
    expired = a_token(some_claims(exp=NOW - 5))
    revoked = a_foreign_token({"sub": "9", "exp": NOW + 60})
    subscription = a_foreign_token({"sub": "7", "exp": NOW + 60, "channel": "$a"})

    with capture_logs() as logs:
        with pytest.raises(TokenExpired):
            authenticator.verify_at_once(expired)
        with pytest.raises(InvalidToken):
            await authenticator.verify(revoked)
        with pytest.raises(TokenMismatch):
            authenticator.verify_subscription_at_once(subscription, SOMEBODY)
        with pytest.raises(InvalidToken):
            await authenticator.verify_subscription(revoked, SOMEBODY)

    assert [line["reason"] for line in logs] == [
        "the token expired 5 s ago",
        "the session is over",
        "the subscription token is of another user",
        "the token is for a connection, not for a subscription",
    ]
